"""Candidate against champion: scores, evidence, decision, and what is remembered of it."""
