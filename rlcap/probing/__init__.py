"""Probes that show how a reward can be won without a better caption, and attacks on judges."""
