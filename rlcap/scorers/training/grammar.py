"""Training of a classifier of grammatical captions, on captions that people wrote and on corrupted copies of them.

fine_tune("distilroberta-base", captions, Path("grammar"))     # a fresh head on a pretrained encoder, both trained
train(model, tokenizer, generate_pairs(sentences, rng), update, steps)  # any classifier with the labels `LABELS`
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.scorers.grammar import AcceptabilityScorer, max_readable_tokens
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.sentences import split_sentences
from rlcap.scorers.training.schedule import one_cycle
from rlcap.scorers.training.text_corruption import corrupt

LABELS = ("corrupted", "grammatical")
"""Label names of the classifier, in the order of its outputs."""
TRUNCATED_SHARE = 0.15
"""Share of the corrupted texts that only end too early, as captions do at a token limit."""
MOST_TOKENS = 128
"""Largest number of tokens of a text in training."""


def generate_pairs(
    sentences: Sequence[str], rng: random.Random, well_formed: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield pairs of a sentence and its corrupted copy, without end.

    Args:
        sentences: well-formed sentences.
        rng: source of randomness.
        well_formed: an exact test of sentences, where one exists (the lab's grammar); a corrupted sentence that passes
            it is skipped. Without a test, some corrupted sentences are still well formed, for instance after the
            removal of a word.
    """
    words = sorted({word for sentence in sentences for word in sentence.split()})
    while True:
        sentence = rng.choice(sentences)
        parts = sentence.split()
        if len(parts) > 3 and rng.random() < TRUNCATED_SHARE:
            corrupted: str | None = " ".join(parts[: rng.randrange(2, len(parts))])
        else:
            corrupted = corrupt(sentence, rng, words)
        if corrupted and not (well_formed and well_formed(corrupted)):
            yield sentence, corrupted


def select_usable_sentences(captions: Sequence[str]) -> list[str]:
    """Return the distinct sentences of at least two words."""
    sentences = dict.fromkeys(sentence for caption in captions for sentence in split_sentences(caption))
    return [sentence for sentence in sentences if len(tokenize(sentence)) > 1]


def train(
    model: Any,
    tokenizer: Any,
    pairs: Iterator[tuple[str, str]],
    update: Callable[[torch.Tensor], None],
    steps: int,
    batch: int = 32,
    most_tokens: int = MOST_TOKENS,
) -> Any:
    """Train a classifier on pairs of a sentence and its corrupted copy.

    Args:
        model: the classifier.
        tokenizer: its tokenizer.
        pairs: pairs as from `generate_pairs`.
        update: takes a loss and makes one optimiser step.
        steps: number of batches.
        batch: pairs per batch.
        most_tokens: largest number of tokens of a text.

    Returns:
        The model, in evaluation mode.
    """
    device = next(model.parameters()).device
    target = torch.tensor([1, 0], device=device).repeat(batch)
    model.train()
    for _ in (bar := tqdm(range(steps), desc="grammar")):
        texts = [text for _ in range(batch) for text in next(pairs)]
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=most_tokens, return_tensors="pt")
        logits = model(**encoded.to(device)).logits
        loss = functional.cross_entropy(logits, target)
        update(loss)
        bar.set_postfix(loss=f"{loss.item():.3f}", right=f"{(logits.argmax(-1) == target).float().mean().item():.2f}")
    return model.eval()


def fine_tune(
    encoder: str, captions: Sequence[str], out: Path, steps: int = 1_000, learning_rate: float = 5e-5, seed: int = 0
) -> float:
    """Train a classifier on captions and write it to a folder, in the format of a hub repository.

    Args:
        encoder: folder or hub name of a text encoder (safetensors).
        captions: captions; a tenth of their sentences is held out.
        out: folder to write.
        steps: number of batches.
        learning_rate: peak of the learning rate.
        seed: seed of the split, the pairs and the fresh weights.

    Returns:
        The accuracy on the held-out sentences, in [0, 1].

    Raises:
        ConfigError: the encoder can't be loaded, or there are fewer than 100 distinct sentences.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    encoder = resolve_address(encoder)
    sentences = select_usable_sentences(captions)
    if len(sentences) < 100:
        raise ConfigError(f"training needs at least 100 distinct sentences, got {len(sentences)}: give more captions")
    random.Random(seed).shuffle(sentences)
    held_out, training = sentences[: len(sentences) // 10], sentences[len(sentences) // 10 :]
    torch.manual_seed(seed)
    with explain_load_errors("--encoder", encoder, "give the folder or hub name of a text encoder"):
        labels = dict(enumerate(LABELS))
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            encoder, num_labels=2, id2label=labels, label2id={name: i for i, name in labels.items()},
            use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
        body = [name for name, *_ in loaded["mismatched_keys"] if name.startswith(f"{model.base_model_prefix}.")]
        if body:  # the head of another classifier (with three labels, say) may be replaced; no other weights may
            raise ValueError(f"weights with shapes that differ from the config: {', '.join(body[:3])}")
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
    with explain_load_errors("--out", str(out), "give a folder that can be written", (OSError,)):
        out.mkdir(parents=True, exist_ok=True)  # so that an error appears now and not after the training
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    pairs = generate_pairs(training, random.Random(f"{seed}/taught"))
    update = one_cycle(model.parameters(), learning_rate, steps)
    train(model, tokenizer, pairs, update, steps, most_tokens=min(MOST_TOKENS, max_readable_tokens(model, tokenizer)))
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    held_out_pairs = generate_pairs(held_out, random.Random(f"{seed}/held out"))
    return accuracy(
        AcceptabilityScorer(model, tokenizer), [next(held_out_pairs) for _ in range(min(1_000, 10 * len(held_out)))]
    )


@torch.inference_mode()
def accuracy(scorer: Any, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the share of texts, in [0, 1], that an `AcceptabilityScorer` classifies correctly.

    Args:
        scorer: the `AcceptabilityScorer`.
        pairs: pairs of a sentence and its corrupted copy.
    """
    good = scorer.probabilities([first for first, _ in pairs])
    corrupted = scorer.probabilities([second for _, second in pairs])
    return float((torch.cat([good, 1 - corrupted]) > 0.5).float().mean())
