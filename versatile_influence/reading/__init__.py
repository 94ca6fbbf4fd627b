"""Reading results: metrics, evaluation, detection, plots."""
