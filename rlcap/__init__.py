"""rlcap: reinforcement and feedback fine-tuning for the quality of image captions."""

__version__ = "0.1.0"
