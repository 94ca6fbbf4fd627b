"""Real data by name, and simulated data that need no file."""
