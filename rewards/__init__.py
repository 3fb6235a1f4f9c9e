"""Concrete rewards, one per file. Each class is a TRL reward function that can be copied, edited or replaced."""
