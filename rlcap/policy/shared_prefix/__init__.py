"""Exact sharing of a prompt by its captions: vision features, key-value cache and gradient checkpointing."""
