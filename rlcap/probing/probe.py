"""`rlcap probe`: where does a mix of rewards like a worse caption better than a better one?

Each image gives a good caption and the battery of `rlcap.probing.perturbations`, and the whole is judged as one group of
siblings: the mix's total is the advantage that training would give (`rlcap.algo.advantages.combine`). On the lab the
good caption is true by construction, the false sentence false, and truth ranks everything; elsewhere the good caption is
the paragraph, or the reference that the others agree with most, which is then held out from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.algo.ordering import ordering_agreement
from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.data.source import FileSource, Truth, load_all, open_source
from rlcap.errors import ConfigError
from rlcap.io.atomic import write_text
from rlcap.probing.perturbations import PROBES, Finding, Material, battery, compare, content_words, ended
from rlcap.reward.mix import RewardMix
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Sample

if TYPE_CHECKING:
    from rlcap.algo.advantages import Aggregate

BAG = 5
"""Images of the bag that captions are scored in, their own among them."""
FLOOR = 1e-4
"""Share of a component's range (for the total: of the weights' sum) up to which a difference is a tie."""
TOTAL = "total"
GOOD = "good"


@dataclass(frozen=True, slots=True)
class Row:
    """One caption of one image with what everyone says of it."""

    image: int
    name: str
    """`good` or a probe."""
    caption: str
    values: Mapping[str, float]
    """Component or `total` → value, NaN where it abstained."""
    truth: float
    """Harmonic mean of precision and recall, times the grammatical share, in [0, 1]; NaN outside the lab."""


@dataclass(frozen=True, slots=True)
class Report:
    """What probing found."""

    rulers: tuple[str, ...]
    """`total`, then the components."""
    findings: Mapping[str, Mapping[str, Finding]]
    """Probe → ruler → finding."""
    agreement: Mapping[str, float]
    """Ruler → share of pairs of one image ordered as truth orders them; empty outside the lab."""
    rows: Sequence[Row]
    samples: Sequence[Sample]

    def failed(self, threshold: float) -> list[str]:
        """Probes that beat the good caption by the mix's total on more than this share of the images."""
        return [name for name, by in self.findings.items() if by[TOTAL].wins > threshold]


def probe(config: GRPOConfig, count: int, split: str | None = None) -> Report:
    """Score the perturbation suites of `count` images by `config.mix`.

    Args:
        config: its data and its mix are used.
        count: number of images.
        split: the split that the images are taken from. None takes them from all rows of a file, drawn by hashed ids, and from the split
            `test` of another source.

    Raises:
        ConfigError: where the data has no such split, or too few images with a text.
    """
    import torch

    source = open_source(config.data)
    if split is None and isinstance(source, FileSource):
        # a file is often sorted by what it shows
        rows = sorted(load_all(config.data), key=lambda sample: hashlib.sha256(sample.id.encode()).digest())
        known = {sample.id: sample for sample in rows}
    else:
        splits = source.load_split(config.data, split or "test", count)
        rows = splits[split or "test"]
        known = {sample.id: sample for part in splits.values() for sample in part}
    instruction = config.data.instruction or source.instruction
    samples, materials = collect_material(rows, count, instruction, source.truth)
    mix = RewardMix.from_config(
        mix_entries(config.mix),
        context={
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "gallery": sorted({sample.image for sample in known.values()}),
        },
        max_abstain=1.0,  # an abstention is a finding here
    )
    return judge_suites(mix, samples, materials, known, config.train.aggregate, source.truth)


def collect_material(
    rows: Iterable[Sample], count: int, instruction: str, truth: Truth | None, seed: int = 0
) -> tuple[list[Sample], list[Material]]:
    """Return up to `count` samples that have a good caption, and what their perturbation suites are made of.

    Raises:
        ConfigError: where fewer than two samples have one.
    """
    good = [(sample, *good_caption(sample, truth)) for sample in rows if has_good_caption(sample, truth)][:count]
    if len(good) < 2:
        raise ConfigError(
            "probing needs at least two images with a paragraph or two references (or a source that knows the truth)"
        )
    samples, materials = [], []
    for sample, caption, references in good:
        rng = random.Random(f"probe/{seed}/{sample.id}")
        near = {sample.id, *sample.distractors.get("hard", ())[:6]}
        others = [text for other, text, _ in good if other.id not in near] or [
            text for other, text, _ in good if other.id != sample.id
        ]
        other = rng.choice(others)
        samples.append(dataclasses.replace(sample, references=references))
        if truth is not None:
            false = truth.false_sentence(caption, sample, rng)
        else:
            false = ended(rng.choice(split_sentences(other) or [other]))
        materials.append(Material(caption, other, false, instruction, words=references))
    return samples, materials


def has_good_caption(sample: Sample, truth: Truth | None) -> bool:
    """Whether a good caption of the sample is known."""
    texts = [text for text in sample.references if content_words(text)]
    return truth is not None or bool(content_words(sample.paragraph or "")) or len(texts) > 1


def good_caption(sample: Sample, truth: Truth | None) -> tuple[str, tuple[str, ...]]:
    """Return the good caption of a sample, and the references that are left to judge it by.

    It is a true caption where the truth is known, else the paragraph, else the reference that the others agree with most.
    """
    if truth is not None:
        return truth.good_caption(sample), sample.references
    if content_words(sample.paragraph or ""):
        return str(sample.paragraph), sample.references
    texts = [text for text in sample.references if content_words(text)]
    best = max(texts, key=lambda text: sum(overlap(text, other) for other in texts if other is not text))
    return best, tuple(text for text in sample.references if text != best)


def overlap(first: str, second: str) -> float:
    """Jaccard overlap of two texts' content words, in [0, 1]."""
    one, two = set(content_words(first)), set(content_words(second))
    return len(one & two) / len(one | two) if one | two else 0.0


def judge_suites(
    mix: RewardMix,
    samples: Sequence[Sample],
    materials: Sequence[Material],
    known: Mapping[str, Sample],
    aggregate: Aggregate,
    truth: Truth | None,
) -> Report:
    """Every good caption with its battery, scored in one batch, ranked image by image."""
    import torch

    from rlcap.algo.advantages import WITH_BASELINE, combine

    texts = [
        (i, name, caption)
        for i, material in enumerate(materials)
        for name, caption in [(GOOD, material.good), *battery(material, seed=i).items()]
    ]
    bags = [
        tuple(known[id].image for id in s.distractors.get("hard", ()) if id in known and id != s.id)[: BAG - 1]
        for s in samples
    ]
    batch = RewardBatch(
        [caption for *_, caption in texts], [samples[i] for i, *_ in texts], [bags[i] for i, *_ in texts]
    )
    values = mix.score(batch).values
    totals = combine(
        values,
        mix.weights,
        torch.tensor([i for i, *_ in texts]),
        normalize=mix.normalize,
        # captions of one image are compared: a baseline that they share would change nothing
        aggregate="sum_then_center" if aggregate in WITH_BASELINE else aggregate,
        reward_ranges=mix.reward_ranges,
    ).advantages
    judged = ~values.isnan()
    totals = torch.where(judged.any(1), totals, torch.nan)
    rulers = (TOTAL, *mix.names)
    rows = [
        Row(
            i,
            name,
            caption,
            dict(zip(rulers, [float(totals[n]), *map(float, values[n])], strict=True)),
            truth.score(caption, samples[i]) if truth is not None else math.nan,
        )
        for n, (i, name, caption) in enumerate(texts)
    ]
    reward_ranges = [span if math.isfinite(span) else 1.0 for span in mix.reward_ranges]
    return report(rows, samples, dict(zip(rulers, [FLOOR, *(FLOOR * span for span in reward_ranges)], strict=True)))


def report(rows: Sequence[Row], samples: Sequence[Sample], floors: Mapping[str, float]) -> Report:
    """Rows of judged captions → findings by probe and ruler. floors: ruler → largest difference that is a tie."""
    good = {row.image: row for row in rows if row.name == GOOD}
    findings: dict[str, dict[str, Finding]] = {}
    for name in PROBES:
        pairs = [(good[row.image], row) for row in rows if row.name == name]
        if pairs:
            findings[name] = {
                ruler: compare([g.values[ruler] for g, _ in pairs], [w.values[ruler] for _, w in pairs], floor)
                for ruler, floor in floors.items()
            }
    agreed: dict[str, float] = {}
    if any(not math.isnan(row.truth) for row in rows):
        groups = [[row for row in rows if row.image == i] for i in good]
        for ruler, floor in floors.items():
            shares = [ordering_agreement([r.values[ruler] for r in g], [r.truth for r in g], floor) for g in groups]
            shares = [share for share in shares if not math.isnan(share)]
            agreed[ruler] = sum(shares) / len(shares) if shares else math.nan
    return Report(tuple(floors), findings, agreed, rows, samples)


def describe_report(found: Report, threshold: float, examples: int = 4) -> str:
    """The report for a terminal: a table of shares, the worst examples, what the mix can't see, and the verdict."""
    lines = [
        f"share of {len(found.samples)} images where the worse caption scores higher (= where it scores the same)",
        "",
    ]
    table = [("probe", *found.rulers)]
    table += [(name, *(_cell(by[ruler]) for ruler in found.rulers)) for name, by in found.findings.items()]
    if found.agreement:
        table.append(("agrees with truth", *(f"{found.agreement[ruler]:.3f}" for ruler in found.rulers)))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
    if worst := _worst(found, examples):
        lines += ["", "where it is fooled:"]
        good = {row.image: row for row in found.rows if row.name == GOOD}
        for row in worst:
            blame = ", ".join(
                f"{name} {good[row.image].values[name]:.2f} → {row.values[name]:.2f}" for name in found.rulers
            )
            lines += [f"  {row.name}, {found.samples[row.image].id}: {blame}"]
            lines += [f"    better: {_short(good[row.image].caption)}", f"    worse:  {_short(row.caption)}"]
    blind = [name for name, by in found.findings.items() if by[TOTAL].n and by[TOTAL].ties > 0.5]
    lines.append("")
    if blind:
        lines.append(f"no component tells these from the good caption: {', '.join(blind)}")
    if failed := found.failed(threshold):
        shares = ", ".join(f"{name} {found.findings[name][TOTAL].wins:.0%}" for name in failed)
        lines.append(f"failed: {shares} of the images, above the threshold of {threshold:.0%}")
    else:
        lines.append(f"passed: no probe wins on more than {threshold:.0%} of the images")
    return "\n".join(lines)


def as_json(found: Report, threshold: float) -> str:
    """Findings, agreement with truth and every caption with its values, for programs; NaN is written as null."""
    plain: dict[str, Any] = {
        "schema": 1,
        "images": len(found.samples),
        "threshold": threshold,
        "failed": found.failed(threshold),
        "findings": {
            name: {ruler: dataclasses.asdict(finding) for ruler, finding in by.items()}
            for name, by in found.findings.items()
        },
        "agreement": dict(found.agreement),
        "rows": [dataclasses.asdict(row) | {"image": found.samples[row.image].id} for row in found.rows],
    }
    return json.dumps(_no_nan(plain), ensure_ascii=False, indent=1) + "\n"


def write_json(found: Report, threshold: float, path: Path) -> None:
    """Write `as_json` to a file, whose folder is created where it does not exist."""
    write_text(path, as_json(found, threshold), "the probe's result")


def _cell(finding: Finding) -> str:
    if not finding.n:
        return "abstains"
    ties = f" (= {finding.ties:.0%})" if finding.ties else ""
    return (f"{finding.wins:.0%}" if finding.wins else "·") + ties


def _worst(found: Report, examples: int) -> list[Row]:
    """Probes that beat their good caption by the total, furthest ahead first, one a probe."""
    good = {row.image: row.values[TOTAL] for row in found.rows if row.name == GOOD}
    fooled = [row for row in found.rows if row.name != GOOD and row.values[TOTAL] - good[row.image] > FLOOR]
    fooled.sort(key=lambda row: good[row.image] - row.values[TOTAL])
    return list({row.name: row for row in reversed(fooled)}.values())[::-1][:examples]


def _short(caption: str, width: int = 140) -> str:
    text = " ".join(caption.split())
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")


def _no_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {key: _no_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(inner) for inner in value]
    return value
