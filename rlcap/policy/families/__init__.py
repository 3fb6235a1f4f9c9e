"""Captioner classes for the supported model families, and the registry that chooses one by the model's config."""
