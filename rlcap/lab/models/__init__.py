"""Training of the small models of the lab."""
