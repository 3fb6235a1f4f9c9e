"""Experts: what models, people and the web say of an image, as statements with a source, a score and a box."""
