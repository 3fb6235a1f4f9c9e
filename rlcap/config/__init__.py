"""Configurations: their schema, how files and overrides become one, and how classes are named in them."""
