"""Evaluation of captioners on held-out images: metrics, statistics, comparisons and the report."""
