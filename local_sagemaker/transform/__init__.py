"""Batch transform: objects of S3 sent through a model server, and its answers put together again."""
