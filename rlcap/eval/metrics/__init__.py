"""Held-out metrics: retrieval, agreement with references, and text statistics."""
