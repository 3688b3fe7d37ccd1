"""Model servers behind endpoints, and the requests sent to them."""
