"""Who watches a training and how, and what was found."""
