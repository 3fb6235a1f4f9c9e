"""Training: the trainers, their rollouts, run folders, checkpoints and what all recipes share."""
