"""Hyperparameter tuning: what to try next, and the job that tries it."""
