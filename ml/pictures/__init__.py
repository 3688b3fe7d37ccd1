"""Bytes of a file, a request or a URL become pixels, or are refused by a code. Without torch."""
