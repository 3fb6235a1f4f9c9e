"""Training a classifier of grammatical captions on captions that people wrote, and on the same captions spoilt.

teach("distilroberta-base", captions, Path("grammar"))        # a fresh head on a pretrained encoder, both trained
train(model, tokenizer, generate_pairs(sentences, rng), update, steps)   # any classifier with the labels of `LABELS`
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from rlcap.scorers.grammar import AcceptabilityScorer, max_readable_tokens
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.sentences import split_sentences
from rlcap.scorers.training.schedule import one_cycle
from rlcap.scorers.training.text_corruption import corrupt
from rlcap.types import ConfigError

LABELS = ("spoilt", "grammatical")
CUT = 0.15
"""Share of the spoilt texts that just end too early: what a token limit does to captions."""
MOST_TOKENS = 128
"""Of a text in training."""


def generate_pairs(
    sentences: Sequence[str], rng: random.Random, well_formed: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, str]]:
    """(a sentence, the same spoilt), without end.

    well_formed: where it is known (the lab's grammar), a spoilt sentence that is still well formed is passed over;
    elsewhere some are, as a word left out may leave a sentence.
    """
    words = sorted({word for sentence in sentences for word in sentence.split()})
    while True:
        sentence = rng.choice(sentences)
        parts = sentence.split()
        if len(parts) > 3 and rng.random() < CUT:
            spoilt = " ".join(parts[: rng.randrange(2, len(parts))])
        else:
            spoilt = corrupt(sentence, rng, words)
        if spoilt and not (well_formed and well_formed(spoilt)):
            yield sentence, spoilt


def select_usable_sentences(captions: Sequence[str]) -> list[str]:
    """The distinct sentences of at least two words."""
    found = dict.fromkeys(sentence for caption in captions for sentence in split_sentences(caption))
    return [sentence for sentence in found if len(tokenize(sentence)) > 1]


def train(
    model: Any,
    tokenizer: Any,
    drawn: Iterator[tuple[str, str]],
    update: Callable[[torch.Tensor], None],
    steps: int,
    batch: int = 32,
    most_tokens: int = MOST_TOKENS,
) -> Any:
    """Train `model` on `steps` batches of `batch` pairs. update: takes a loss and makes one optimiser step."""
    device = next(model.parameters()).device
    target = torch.tensor([1, 0], device=device).repeat(batch)
    model.train()
    for _ in (bar := tqdm(range(steps), desc="grammar")):
        texts = [text for _ in range(batch) for text in next(drawn)]
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=most_tokens, return_tensors="pt")
        logits = model(**encoded.to(device)).logits
        loss = functional.cross_entropy(logits, target)
        update(loss)
        bar.set_postfix(loss=f"{loss.item():.3f}", right=f"{(logits.argmax(-1) == target).float().mean().item():.2f}")
    return model.eval()


def fine_tune(
    encoder: str, captions: Sequence[str], out: Path, steps: int = 1_000, learning_rate: float = 5e-5, seed: int = 0
) -> float:
    """Train a classifier on `captions` (a tenth of their sentences held out) and write it to `out`, as a hub repository
    would hold it. Returns its accuracy on the sentences held out.

    encoder: folder or hub name of a text encoder (safetensors). Raises ConfigError for one that can't be loaded, and for
    fewer than 100 distinct sentences.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    sentences = select_usable_sentences(captions)
    if len(sentences) < 100:
        raise ConfigError(
            f"grammar is learnt from at least 100 distinct sentences, got {len(sentences)}: give more captions"
        )
    random.Random(seed).shuffle(sentences)
    held_out, taught = sentences[: len(sentences) // 10], sentences[len(sentences) // 10 :]
    torch.manual_seed(seed)
    with explain_load_errors("--encoder", encoder, "give the folder or hub name of a text encoder"):
        labels = dict(enumerate(LABELS))
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            encoder, num_labels=2, id2label=labels, label2id={name: i for i, name in labels.items()},
            use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
        body = [name for name, *_ in loaded["mismatched_keys"] if name.startswith(f"{model.base_model_prefix}.")]
        if body:  # a classifier's own head, of three labels say, makes room for this one; nothing else may
            raise ValueError(f"weights of other shapes than its config's: {', '.join(body[:3])}")
        tokenizer = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
    with explain_load_errors("--out", str(out), "give a folder that can be written", (OSError,)):
        out.mkdir(parents=True, exist_ok=True)  # known now, and not after the training
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    drawn = generate_pairs(taught, random.Random(f"{seed}/taught"))
    update = one_cycle(model.parameters(), learning_rate, steps)
    train(model, tokenizer, drawn, update, steps, most_tokens=min(MOST_TOKENS, max_readable_tokens(model, tokenizer)))
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    unseen = generate_pairs(held_out, random.Random(f"{seed}/held out"))
    return accuracy(
        AcceptabilityScorer(model, tokenizer), [next(unseen) for _ in range(min(1_000, 10 * len(held_out)))]
    )


@torch.inference_mode()
def accuracy(scorer: Any, drawn: Sequence[tuple[str, str]]) -> float:
    """Share in [0, 1] of (sentence, spoilt) texts that an `AcceptabilityScorer` puts on the right side of one half."""
    good = scorer.probabilities([first for first, _ in drawn])
    spoilt = scorer.probabilities([second for _, second in drawn])
    return float((torch.cat([good, 1 - spoilt]) > 0.5).float().mean())
