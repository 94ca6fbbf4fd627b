"""Sums of terms that die with any of their objects: regressions, pairs, triplets."""
