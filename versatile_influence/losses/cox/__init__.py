"""The Cox partial likelihood."""
