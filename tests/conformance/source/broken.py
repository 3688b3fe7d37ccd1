"""A user's script with a mistake."""

print("looking for the data")
raise FileNotFoundError("train.csv is not in the channel")
