"""What the profiler found, for a person: the page, its charts and advice, the notebook, the folder's files."""
