"""The model server for any inference.py: the application, handlers, waiting requests computed together."""
