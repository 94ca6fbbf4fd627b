"""What one does with a loss: attribute, step, descend, refit, retrain, check."""
