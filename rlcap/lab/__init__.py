"""The embedded lab: a simulated world of images in which the truth is known, with small models trained on it."""
