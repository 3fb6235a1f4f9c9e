"""Tiny random models of the lab's architectures, and its samples, for the evaluation's tests."""

import torch

from rlcap.lab.models.captioner import captioner_config, captioner_processor
from rlcap.lab.models.retriever import retriever_config, save_retriever
from rlcap.lab.source import load_split
from rlcap.scorers.clip import ClipScorer


def captioner():
    """(model, processor): a FastVLM with random weights that writes random words of the lab."""
    from transformers import FastVlmForConditionalGeneration

    torch.manual_seed(0)
    config = captioner_config()
    config.text_config.num_hidden_layers = 1
    return FastVlmForConditionalGeneration(config), captioner_processor()


def retriever(folder):
    from open_clip.model import CLIP

    torch.manual_seed(1)
    config = retriever_config("evaluation")
    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    save_retriever(model, "evaluation", folder / "clip")
    return ClipScorer.load(f"local-dir:{folder / 'clip'}", cache_dir=folder / "embeddings")


def lab_samples(folder, count=14):
    return load_split("test", count, 0, cache=folder)
