"""Judges: asking language and vision models, with limits, a cache, retries and a record of their use."""
