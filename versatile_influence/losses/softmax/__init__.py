"""Sums of log-softmax terms: ranking and contrastive losses."""
