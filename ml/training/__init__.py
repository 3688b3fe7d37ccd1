"""A training: its flags, the loop, optimisation, features of frozen layers, export and tracking."""
