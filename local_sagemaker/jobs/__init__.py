"""Jobs from Create to their last status, and what a script finds when it runs."""
