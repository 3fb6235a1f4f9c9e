"""Concrete rewards, one a file. Each class is a TRL reward function and can be copied, edited or replaced."""
