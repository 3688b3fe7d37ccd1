"""Where the records of a training lie, who of its processes writes them, and the notes beside them."""
