"""The sections of a recipe, each with its own rules; and how plain data becomes one of them.

layout, split, machines, tuning, debugger, promotion, tracking, budget   the sections
refusal                                                                  RecipeError
reading                                                                  YAML's data → frozen dataclasses
"""
