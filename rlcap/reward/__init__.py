"""The framework of rewards: base classes, the reward mix, its runner, and reward cards."""
