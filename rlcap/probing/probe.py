"""`rlcap probe`: finds out where a reward mix prefers a worse caption to a better one.

Each image has a good caption and the perturbation suite of `rlcap.probing.perturbations`. The mix scores all of them as one
group, and its total is the advantage that training would use (`rlcap.algo.advantages.combine`).

In the lab, the good caption is true by construction, the false sentence is false, and the truth ranks all captions. With
other data, the good caption is the paragraph. Without a paragraph, it is the reference with which the others agree most,
and it is then removed from the references.
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
from rlcap.io.json_values import nan_to_null
from rlcap.probing.perturbations import PROBES, Finding, Material, compare, content_words, ended, make_suite
from rlcap.reward.mix import RewardMix
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Sample

if TYPE_CHECKING:
    from rlcap.algo.advantages import Aggregate

BAG_SIZE = 5
"""Images of the bag in which captions are scored, including the caption's own image."""
FLOOR = 1e-4
"""Share of the range of a term (for the total: of the sum of weights) up to which a difference is a tie."""
TOTAL = "total"
"""Name of the total of the mix, beside the names of the terms."""
GOOD = "good"
"""Name of the good caption, beside the names of the probes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One caption of one image with its values."""

    image: int
    """Index of the image."""
    name: str
    """`good` or the name of a probe."""
    caption: str
    """The caption."""
    values: Mapping[str, float]
    """Term or `total` → value, NaN where the term abstained."""
    truth: float
    """Harmonic mean of precision and recall, times the grammatical share, in [0, 1]; NaN outside the lab."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of probing a mix."""

    terms: tuple[str, ...]
    """`total`, then the names of the reward terms."""
    findings: Mapping[str, Mapping[str, Finding]]
    """Probe → term or `total` → finding."""
    agreement: Mapping[str, float]
    """Term or `total` → share of pairs of captions of one image in the order of the truth; empty outside the lab."""
    rows: Sequence[Row]
    """All scored captions."""
    samples: Sequence[Sample]
    """The images, in the order of `Row.image`."""

    def failed(self, threshold: float) -> list[str]:
        """Return the probes that win too often.

        Args:
            threshold: Share of images, in [0, 1], on which a probe may beat the good caption by the total of the mix.
        """
        return [name for name, by in self.findings.items() if by[TOTAL].wins > threshold]


def probe(config: GRPOConfig, count: int, split: str | None = None) -> Report:
    """Score the perturbation suites of `count` images by `config.mix`.

    Args:
        config: its data and its mix are used.
        count: number of images.
        split: the split that the images are taken from. None takes them from all rows of a file, drawn by hashed ids, and from the split
            `test` of another source.

    Raises:
        ConfigError: The data has no such split, or too few images with a text.
    """
    from rlcap.reward.context import reward_context

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
        context=reward_context(
            (sample.image for sample in known.values()), base=config.model.base, instruction=instruction
        ),
        max_abstain=1.0,  # abstentions don't stop the command, because the report shows them
    )
    return judge_suites(mix, samples, materials, known, config.train.aggregate, source.truth)


def collect_material(
    rows: Iterable[Sample], count: int, instruction: str, truth: Truth | None, seed: int = 0
) -> tuple[list[Sample], list[Material]]:
    """Return samples that have a good caption, and the texts for their perturbation suites.

    Args:
        rows: Samples, of which those without a good caption are skipped.
        count: Maximum number of samples to return.
        instruction: The instruction to the captioner.
        truth: The truth about the images; None where it is unknown.
        seed: Seed of the choice of texts.

    Raises:
        ConfigError: Fewer than two samples have a good caption.
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
    """Return whether a good caption of the sample is known."""
    texts = [text for text in sample.references if content_words(text)]
    return truth is not None or bool(content_words(sample.paragraph or "")) or len(texts) > 1


def good_caption(sample: Sample, truth: Truth | None) -> tuple[str, tuple[str, ...]]:
    """Return the good caption of a sample, and the remaining references, against which rewards compare captions.

    The good caption is a true caption where the truth is known. Otherwise it is the paragraph, or else the reference with
    which the others agree most.
    """
    if truth is not None:
        return truth.good_caption(sample), sample.references
    if content_words(sample.paragraph or ""):
        return str(sample.paragraph), sample.references
    texts = [text for text in sample.references if content_words(text)]
    best = max(texts, key=lambda text: sum(measure_overlap(text, other) for other in texts if other is not text))
    return best, tuple(text for text in sample.references if text != best)


def measure_overlap(first: str, second: str) -> float:
    """Return the Jaccard overlap of the content words of two texts, in [0, 1]."""
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
    """Score every good caption with its perturbation suite in one batch, and compare them image by image.

    Args:
        mix: The rewards.
        samples: N samples.
        materials: The texts for their perturbation suites.
        known: Id → sample, for bags.
        aggregate: How training combines the terms (`train.aggregate`).
        truth: The truth about the images; None where it is unknown.
    """
    import torch

    from rlcap.algo.advantages import WITH_BASELINE, combine

    texts = [
        (i, name, caption)
        for i, material in enumerate(materials)
        for name, caption in [(GOOD, material.good), *make_suite(material, seed=i).items()]
    ]
    bags = [
        tuple(known[id].image for id in s.distractors.get("hard", ()) if id in known and id != s.id)[: BAG_SIZE - 1]
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
        # Only captions of one image are compared, so a baseline that they share would change nothing.
        aggregate="sum_then_center" if aggregate in WITH_BASELINE else aggregate,
        reward_ranges=mix.reward_ranges,
    ).advantages
    has_score = ~values.isnan()
    totals = torch.where(has_score.any(1), totals, torch.nan)
    terms = (TOTAL, *mix.names)
    rows = [
        Row(
            i,
            name,
            caption,
            dict(zip(terms, [float(totals[n]), *map(float, values[n])], strict=True)),
            truth.score(caption, samples[i]) if truth is not None else math.nan,
        )
        for n, (i, name, caption) in enumerate(texts)
    ]
    reward_ranges = [width if math.isfinite(width) else 1.0 for width in mix.reward_ranges]
    floors = [FLOOR, *(FLOOR * width for width in reward_ranges)]
    return make_report(rows, samples, dict(zip(terms, floors, strict=True)))


def make_report(rows: Sequence[Row], samples: Sequence[Sample], floors: Mapping[str, float]) -> Report:
    """Return the findings by probe and term.

    Args:
        rows: All scored captions.
        samples: The images, in the order of `Row.image`.
        floors: Term or `total` → largest difference that is a tie.
    """
    good = {row.image: row for row in rows if row.name == GOOD}
    findings: dict[str, dict[str, Finding]] = {}
    for name in PROBES:
        pairs = [(good[row.image], row) for row in rows if row.name == name]
        if pairs:
            findings[name] = {
                term: compare([g.values[term] for g, _ in pairs], [w.values[term] for _, w in pairs], floor)
                for term, floor in floors.items()
            }
    agreements: dict[str, float] = {}
    if any(not math.isnan(row.truth) for row in rows):
        groups = [[row for row in rows if row.image == i] for i in good]
        for term, floor in floors.items():
            shares = [ordering_agreement([r.values[term] for r in g], [r.truth for r in g], floor) for g in groups]
            shares = [share for share in shares if not math.isnan(share)]
            agreements[term] = sum(shares) / len(shares) if shares else math.nan
    return Report(tuple(floors), findings, agreements, rows, samples)


def describe_report(report: Report, threshold: float, examples: int = 4) -> str:
    """Return the report as text: a table of shares, the worst examples, the probes that always tie, and the verdict.

    Args:
        report: The result of probing.
        threshold: As in `Report.failed`.
        examples: Maximum number of examples.
    """
    lines = [
        f"share of {len(report.samples)} images where the worse caption scores higher (= where it scores the same)",
        "",
    ]
    table = [("probe", *report.terms)]
    table += [(name, *(_cell(by[term]) for term in report.terms)) for name, by in report.findings.items()]
    if report.agreement:
        table.append(("agrees with truth", *(f"{report.agreement[term]:.3f}" for term in report.terms)))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
    if worst := _find_worst(report, examples):
        lines += ["", "examples where the worse caption wins:"]
        good = {row.image: row for row in report.rows if row.name == GOOD}
        for row in worst:
            changes = ", ".join(
                f"{name} {good[row.image].values[name]:.2f} → {row.values[name]:.2f}" for name in report.terms
            )
            lines += [f"  {row.name}, {report.samples[row.image].id}: {changes}"]
            lines += [f"    better: {_short(good[row.image].caption)}", f"    worse:  {_short(row.caption)}"]
    tied = [name for name, by in report.findings.items() if by[TOTAL].n and by[TOTAL].ties > 0.5]
    lines.append("")
    if tied:
        lines.append(f"no term distinguishes these probes from the good caption: {', '.join(tied)}")
    if failed := report.failed(threshold):
        shares = ", ".join(f"{name} {report.findings[name][TOTAL].wins:.0%}" for name in failed)
        lines.append(f"failed: {shares} of the images, above the threshold of {threshold:.0%}")
    else:
        lines.append(f"passed: no probe wins on more than {threshold:.0%} of the images")
    return "\n".join(lines)


def to_json(report: Report, threshold: float) -> str:
    """Return the findings, the agreement with the truth, and all captions with their values as JSON, with null for NaN.

    Args:
        report: The result of probing.
        threshold: As in `Report.failed`.
    """
    plain: dict[str, Any] = {
        "schema": 1,
        "images": len(report.samples),
        "threshold": threshold,
        "failed": report.failed(threshold),
        "findings": {
            name: {term: dataclasses.asdict(finding) for term, finding in by.items()}
            for name, by in report.findings.items()
        },
        "agreement": dict(report.agreement),
        "rows": [dataclasses.asdict(row) | {"image": report.samples[row.image].id} for row in report.rows],
    }
    return json.dumps(nan_to_null(plain), ensure_ascii=False, indent=1) + "\n"


def write_json(report: Report, threshold: float, path: Path) -> None:
    """Write the JSON of `to_json` to a file, whose folder is created if it does not exist."""
    write_text(path, to_json(report, threshold), "the probe's result")


def _cell(finding: Finding) -> str:
    if not finding.n:
        return "abstains"
    ties = f" (= {finding.ties:.0%})" if finding.ties else ""
    return (f"{finding.wins:.0%}" if finding.wins else "·") + ties


def _find_worst(report: Report, examples: int) -> list[Row]:
    """Return the captions that beat their good caption by the largest margin of the total, one per probe."""
    good = {row.image: row.values[TOTAL] for row in report.rows if row.name == GOOD}
    winners = [row for row in report.rows if row.name != GOOD and row.values[TOTAL] - good[row.image] > FLOOR]
    winners.sort(key=lambda row: good[row.image] - row.values[TOTAL])
    return list({row.name: row for row in reversed(winners)}.values())[::-1][:examples]


def _short(caption: str, width: int = 140) -> str:
    text = " ".join(caption.split())
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
