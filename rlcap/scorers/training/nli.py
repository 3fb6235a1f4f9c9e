"""Teaching an NLI model what is wrong in a caption, by captions that people wrote and the same made wrong (`mistakes`).

    teach("cross-encoder/nli-deberta-v3-small", captions_of_each_image, Path("nli"))

loss = −log(1 − P(contradiction)) of a right caption, −log P(contradiction) of a wrong one, given the other captions of the image.
Entailment and neutral are left to share what is not contradiction as the model knows it. An NLI model out of the box holds
against a caption what its references leave out, and passes over what is no contradiction in logic, but false of the image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rlcap.scorers.grounding import Grounding
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.training.hard_negatives import FARTHEST, Example, HardNegatives
from rlcap.scorers.training.schedule import one_cycle
from rlcap.types import ConfigError

BATCH = 16
"""Examples an update, hence twice as many pairs."""
MOST_IMAGES = 4_000
"""Drawn from more: each of their captions is encoded, and similar images are looked for among them."""
MOST_TOKENS = 256
KEPT = 0.3
"""Share of the model as it was in what is written: between its weights and the taught ones lie models that know what both
know (Wortsman et al. 2022, arXiv 2109.01903, eq. 1)."""


def vary_style(text: str, rng: random.Random) -> str:
    """A caption as it is, or in small letters without its full stop: neither makes it wrong."""
    return text if rng.random() < 0.5 else text.lower().rstrip(".")


def interpolate_weights(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], kept: float
) -> dict[str, torch.Tensor]:
    """kept · before + (1 − kept) · after, weight by weight; what is no floating-point number as it is after."""
    return {
        name: kept * before[name] + (1 - kept) * weight if weight.is_floating_point() else weight
        for name, weight in after.items()
    }


def contradiction_loss(log_probs: torch.Tensor, columns: tuple[int, int, int], wrong: torch.Tensor) -> torch.Tensor:
    """Mean loss of N pairs. log_probs (N, 3); columns of entailment, neutral and contradiction; wrong (N,) of bool."""
    entailed, neutral, contradicted = (log_probs[:, column] for column in columns)
    return -torch.where(wrong, contradicted, torch.logaddexp(entailed, neutral)).mean()


def train(
    scorer: NliScorer,
    draw: Callable[[], Example],
    update: Callable[[torch.Tensor], None],
    steps: int,
    rng: random.Random,
) -> None:
    """`steps` updates of `BATCH` examples each. update: takes a loss and makes one optimiser step."""
    model, device = scorer.model, scorer.model.device
    wrong = torch.tensor([False, True], device=device).repeat_interleave(BATCH)
    model.requires_grad_(True).train()
    for _ in (bar := tqdm(range(steps), desc="nli")):
        examples = [draw() for _ in range(BATCH)]
        premises = [" ".join(example.references) for example in examples] * 2
        claims = [example.right for example in examples] + [example.wrong for example in examples]
        encoded = scorer.tokenizer(
            premises, [vary_style(claim, rng) for claim in claims],
            padding=True, truncation="longest_first", max_length=min(MOST_TOKENS, scorer.max_tokens), return_tensors="pt",
        )  # fmt: skip
        with torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device)):
            logits = model(**encoded.to(device)).logits
        loss = contradiction_loss(logits.float().log_softmax(-1), scorer.columns, wrong)
        update(loss)
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.requires_grad_(False).eval()


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the machine computes in bfloat16 by itself; elsewhere it is slower, or not there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def fine_tune(
    nli: str,
    images: Sequence[Sequence[str]],
    out: Path,
    steps: int = 1_500,
    learning_rate: float = 7e-5,
    seed: int = 0,
) -> tuple[float, float]:
    """Train an NLI model further on the captions of `images` (a tenth of the images held out) and write it to `out`, as a
    hub repository would hold it. Returns the AUC of P(contradiction), right captions against wrong ones of the images held
    out, before and after.

    nli: folder or hub name (safetensors). Raises ConfigError for one that can't be loaded, and for fewer than
    10 × `FARTHEST` images with two different captions.
    """
    with explain_load_errors("--nli", nli, "give a model of entailment, neutral and contradiction"):
        scorer = NliScorer.load(nli, "cuda" if torch.cuda.is_available() else "cpu")
    with explain_load_errors("--out", str(out), "give a folder that can be written", (OSError,)):
        out.mkdir(parents=True, exist_ok=True)  # known now, and not after the training
    usable = [texts for texts in images if len({text.strip() for text in texts} - {""}) > 1]
    if len(usable) < 10 * FARTHEST:
        raise ConfigError(
            f"mistakes are learnt from {10 * FARTHEST} images with two different captions at least, got {len(usable)}: "
            "give more captions"
        )
    random.Random(f"{seed}/images").shuffle(usable)
    usable = usable[:MOST_IMAGES]
    encoder = Grounding.from_nli(scorer).encoder
    unseen = random.Random(f"{seed}/held out")
    try:
        held_out, taught = (
            HardNegatives(part, encoder) for part in (usable[: len(usable) // 10], usable[len(usable) // 10 :])
        )
        examples = [held_out.draw(unseen) for _ in range(500)]
        taught.draw(random.Random(seed))
    except ValueError as error:
        raise ConfigError(
            f"of {len(usable)} images, a tenth held out: {error}; give more captions, or more varied ones"
        ) from error
    before = compute_auc(scorer, examples)
    torch.manual_seed(seed)
    rng, start = random.Random(f"{seed}/taught"), {k: v.clone() for k, v in scorer.model.state_dict().items()}
    train(scorer, lambda: taught.draw(rng), one_cycle(scorer.model.parameters(), learning_rate, steps), steps, rng)
    scorer.model.load_state_dict(interpolate_weights(start, scorer.model.state_dict(), KEPT))
    scorer.model.save_pretrained(out, safe_serialization=True)
    scorer.tokenizer.save_pretrained(out)
    return before, compute_auc(scorer, examples)


def compute_auc(scorer: Any, examples: Sequence[Example]) -> float:
    """AUC in [0, 1] of P(contradiction): wrong captions above right ones; a tie counts half."""
    premises = [" ".join(example.references) for example in examples]
    right, wrong = (
        scorer.probabilities(premises, [getattr(example, kind) for example in examples])[:, 2]
        for kind in ("right", "wrong")
    )
    gaps = wrong[:, None] - right[None]
    return float((gaps > 0).float().mean() + (gaps == 0).float().mean() / 2)
