"""Embeddings of nodes."""
