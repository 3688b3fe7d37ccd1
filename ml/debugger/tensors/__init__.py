"""Saved tensors in Debugger's format: written by the hook, read by the rules."""
