"""Training: to a minimum, and for a number of epochs."""
