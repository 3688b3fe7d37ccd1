"""Money: what a run may cost at most, and what it was billed."""
