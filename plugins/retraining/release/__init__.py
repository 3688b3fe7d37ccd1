"""From an accepted candidate to one that serves: what was asked of the endpoint, what it serves, what is sent to it."""
