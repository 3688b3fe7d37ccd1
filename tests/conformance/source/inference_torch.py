"""A user's inference script that leaves everything to the toolkit's defaults."""
