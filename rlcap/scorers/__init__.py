"""Frozen models and counts that rewards and metrics share."""
