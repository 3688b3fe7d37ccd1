"""The network: its layers, its weights, the artifact it is kept in, and what computes it."""
