"""Which images are nearly the same picture, and which of them must not be on both sides of a measurement."""
