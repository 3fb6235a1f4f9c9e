"""Pure tensor functions of reinforcement learning: advantages, token credit, KL estimators and losses."""
