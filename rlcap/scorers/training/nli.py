"""Training of an NLI model on errors in captions, with captions that people wrote and hard negatives.

    fine_tune("cross-encoder/nli-deberta-v3-small", captions_of_each_image, Path("nli"))

loss = −log(1 − P(contradiction)) of a right caption, −log P(contradiction) of a wrong one, given the other captions of
the image. The remaining probability is not trained: the model itself divides it between entailment and neutral. An NLI
model without this training penalises a caption for content that its references omit, and overlooks content that is no
logical contradiction but false of the image. The wrong captions come from `rlcap.scorers.training.hard_negatives`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rlcap.errors import ConfigError
from rlcap.scorers.grounding import Grounding
from rlcap.scorers.loading import explain_load_errors
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.training.hard_negatives import LAST_RANK, Example, HardNegatives
from rlcap.scorers.training.schedule import one_cycle
from rlcap.types import says_something

BATCH = 16
"""Examples per update; each of them gives two pairs."""
MOST_IMAGES = 4_000
"""Largest number of images; a random subset is drawn from more, since every caption is encoded and compared."""
MOST_TOKENS = 256
"""Largest number of tokens of a pair in training."""
KEPT = 0.3
"""Weight of the original model in the interpolated weights that are written.

Models between the original and the trained weights keep the abilities of both (Wortsman et al. 2022, arXiv 2109.01903,
eq. 1).
"""


def vary_style(text: str, rng: random.Random) -> str:
    """Return a caption unchanged, or in lower case without its full stop: neither makes it wrong."""
    return text if rng.random() < 0.5 else text.lower().rstrip(".")


def interpolate_weights(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], kept: float
) -> dict[str, torch.Tensor]:
    """Return kept · before + (1 − kept) · after for each weight; integer entries come from `after`."""
    return {
        name: kept * before[name] + (1 - kept) * weight if weight.is_floating_point() else weight
        for name, weight in after.items()
    }


def contradiction_loss(log_probs: torch.Tensor, columns: tuple[int, int, int], wrong: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of N pairs, by the formula of the module docstring.

    Args:
        log_probs: (N, 3) log-probabilities.
        columns: the columns of entailment, neutral and contradiction.
        wrong: (N,) bool, whether the caption is wrong.
    """
    entailed, neutral, contradicted = (log_probs[:, column] for column in columns)
    return -torch.where(wrong, contradicted, torch.logaddexp(entailed, neutral)).mean()


def train(
    scorer: NliScorer,
    draw: Callable[[], Example],
    update: Callable[[torch.Tensor], None],
    steps: int,
    rng: random.Random,
) -> None:
    """Train the scorer's model with `steps` updates of `BATCH` examples each.

    Args:
        scorer: the NLI model.
        draw: returns a new example.
        update: takes a loss and makes one optimiser step.
        steps: number of updates.
        rng: source of randomness of `vary_style`.
    """
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
    """Return whether the hardware computes in bfloat16; elsewhere bfloat16 is emulated slowly or unsupported."""
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
    """Train an NLI model further on captions and write it to a folder, in the format of a hub repository.

    Args:
        nli: folder or hub name of the model (safetensors).
        images: the captions of each image; a tenth of the images is held out.
        out: folder to write.
        steps: number of updates.
        learning_rate: peak of the learning rate.
        seed: seed of the split and the examples.

    Returns:
        The AUC of P(contradiction) for wrong against right captions of the held-out images, before and after the
        training.

    Raises:
        ConfigError: the model can't be loaded, or fewer than 10 × `LAST_RANK` images have two different captions.
    """
    with explain_load_errors("--nli", nli, "give a model of entailment, neutral and contradiction"):
        scorer = NliScorer.load(nli, "cuda" if torch.cuda.is_available() else "cpu")
    with explain_load_errors("--out", str(out), "give a folder that can be written", (OSError,)):
        out.mkdir(parents=True, exist_ok=True)  # so that an error appears now and not after the training
    usable = [texts for texts in images if len({text.strip() for text in texts if says_something(text)}) > 1]
    if len(usable) < 10 * LAST_RANK:
        raise ConfigError(
            f"training needs at least {10 * LAST_RANK} images with two different captions, got {len(usable)}: "
            "give more captions"
        )
    random.Random(f"{seed}/images").shuffle(usable)
    usable = usable[:MOST_IMAGES]
    encoder = Grounding.from_nli(scorer).encoder
    held_out_rng = random.Random(f"{seed}/held out")
    try:
        held_out, training = (
            HardNegatives(part, encoder) for part in (usable[: len(usable) // 10], usable[len(usable) // 10 :])
        )
        examples = [held_out.draw(held_out_rng) for _ in range(500)]
        training.draw(random.Random(seed))
    except ValueError as error:
        raise ConfigError(
            f"of {len(usable)} images, a tenth held out: {error}; give more captions, or more varied ones"
        ) from error
    before = compute_auc(scorer, examples)
    torch.manual_seed(seed)
    rng, start = random.Random(f"{seed}/taught"), {k: v.clone() for k, v in scorer.model.state_dict().items()}
    train(scorer, lambda: training.draw(rng), one_cycle(scorer.model.parameters(), learning_rate, steps), steps, rng)
    scorer.model.load_state_dict(interpolate_weights(start, scorer.model.state_dict(), KEPT))
    scorer.model.save_pretrained(out, safe_serialization=True)
    scorer.tokenizer.save_pretrained(out)
    return before, compute_auc(scorer, examples)


def compute_auc(scorer: Any, examples: Sequence[Example]) -> float:
    """Return the AUC in [0, 1] of P(contradiction) for wrong against right captions; a tie counts half."""
    premises = [" ".join(example.references) for example in examples]
    right, wrong = (
        scorer.probabilities(premises, [getattr(example, kind) for example in examples])[:, 2]
        for kind in ("right", "wrong")
    )
    gaps = wrong[:, None] - right[None]
    return float((gaps > 0).float().mean() + (gaps == 0).float().mean() / 2)
