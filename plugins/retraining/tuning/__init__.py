"""What the search for hyperparameters begins from."""
