"""The recipes: one linear script for each training method. Each one also runs as `python -m rlcap.recipes.NAME`."""
