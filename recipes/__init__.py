"""The recipes: one linear script for each way of training. Each one also runs as `python -m rlcap.recipes.NAME`."""
