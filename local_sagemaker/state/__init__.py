"""What the server remembers, on disk."""
