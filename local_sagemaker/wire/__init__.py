"""What travels over HTTP: formats, signatures, and the rules a request must meet."""
