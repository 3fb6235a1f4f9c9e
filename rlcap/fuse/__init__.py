"""Fusion: what experts say of an image becomes one paragraph, whose sentences keep their provenance."""
