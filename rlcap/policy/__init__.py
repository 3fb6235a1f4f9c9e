"""The captioner that is trained: model families, loading, LoRA adapters, the value model and exact prefix sharing."""
