"""Training of the small models that scorers use, on captions that people wrote."""
