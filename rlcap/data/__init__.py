"""Data sets: reading samples, mining and attaching bags, curricula, and the order and batching of training."""
