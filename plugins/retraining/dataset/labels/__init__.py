"""Labels that may be wrong: who doubts them, what a person decided, and what a sync makes of it."""
