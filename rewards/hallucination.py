"""Hallucination: does the caption contradict the references or go beyond them, and does it say what they say?

measures  r = α · r_f + (1 − α) · r_a; fidelity r_f by NLI, adequacy r_a by greedy token matching
range     [-1, 1]
needs     references
cost      one NLI pass per pair of a reference and a caption or sentence; one encoder pass per text, two with `grounded`
source    MOCHa (arXiv 2312.03631): r_f = 1 − 2 · mean_k P(contradiction | ref_k, caption), r_a = clip(2 · (F1 − .35),
          −1, 1), α = .5 (`mocha`). `sentences` judges each sentence against all references: a contradicted one costs 1,
          an unsupported one `unsupported`, a supported one 0, and r_f = 1 − 2 · mean cost. `grounded`, for photos, also
          looks each word up in the references (`rlcap.scorers.grounding`; ALOHa, arXiv 2404.02904), because NLI
          overlooks one wrong word among ten right ones
hack      with α = 1, short safe sentences. True sentences in other words dilute a false one (only a little in
          `grounded`). In `mocha`, a hedge: "there might be …" adds .31 to r_f of 120 nocaps captions with a wrong
          object. A hedge takes away .07 in `sentences`, which also judges the claim without its hedge, and .03 in
          `grounded` (benchmarks/hedges.py). In `grounded`, the references' own words
guards    adequacy and length against silence; repetition; self-retrieval and critique for detail. `rlcap nli` trains
          the NLI model from captions alone to separate what is false from what other captions only leave out
fails     one_word, cut_off, repeated, echo, other_image, generic, one_false, one_missing, rambling, foreign, injection,
          praise; measured with the lab's NLI model, which has never seen most of these words: `sentences` with α = 1,
          `mocha` with .5
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.parameters import check_number
from rlcap.scorers.claims import distinct_sentences, mean_contradictions, sentence_costs
from rlcap.scorers.grounding import GroundedSentence, Grounding, caption_cost, grounded_sentences
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.text.numbers import spell_out_counts
from rlcap.scorers.text.sentences import sentence_spans, split_sentences
from rlcap.scorers.token_matching import TokenMatchingScorer
from rlcap.types import RewardBatch, Score, Span


def fidelity(contradiction: float) -> float:
    """Return 1 − 2p in [-1, 1] for a mean P(contradiction), or a mean cost, in [0, 1]; .25 gives .5."""
    return 1 - 2 * contradiction


def adequacy(f1: float) -> float:
    """Return clip(2 · (F1 − .35), −1, 1) for a rescaled F1; .60 gives .5, and .85 or more gives 1."""
    return max(-1.0, min(1.0, 2 * (f1 - 0.35)))


def sentence_spans_of_costs(caption: str, costs: Sequence[float]) -> tuple[Span, ...]:
    """Return a span of value −cost for each sentence of a caption.

    Args:
        caption: the caption.
        costs: the costs of its distinct sentences; a sentence that occurs twice has the same cost twice.
    """
    cost_of = dict(zip(distinct_sentences(caption), costs, strict=True))
    return tuple(
        Span(*at, -cost_of[text], f"cost {cost_of[text]:.2f}")
        for at, text in zip(sentence_spans(caption), split_sentences(caption), strict=True)
    )


def grounded_spans(caption: str, sentences: Sequence[GroundedSentence], share: float) -> tuple[Span, ...]:
    """Return a span for each sentence, by the NLI model, and one for each word that the references do not support.

    Args:
        caption: the caption.
        sentences: its distinct sentences.
        share: share of the words' doubts in a sentence's cost, in [0, 1].
    """
    by_text = {sentence.text: sentence for sentence in sentences}
    spans = []
    for (start, end), text in zip(sentence_spans(caption), split_sentences(caption), strict=True):
        sentence = by_text.get(spell_out_counts(text))
        if sentence is None:
            continue
        cost = sentence.nli_cost * (1 - share if sentence.words else 1.0)
        spans.append(Span(start, end, -cost, f"cost {sentence.nli_cost:.2f}"))
        position = start
        for word, doubt in sentence.words:
            found = caption.lower().find(word, position, end)
            if found >= 0:  # a count that was spelled out is not in the caption
                position = found + len(word)
                spans.append(Span(found, position, -share * doubt, f"doubt {doubt:.2f}"))
    return tuple(spans)


class Hallucination(Reward):
    """Fidelity to the references and adequacy as a reward.

    The empty caption gets the lowest value: it says nothing wrong, and must not win by that. A sentence that occurs
    twice counts once. A hedged sentence costs as much as it does without its hedges, and at least `unsupported`.

    Args:
        nli: path or hub name of an NLI model, or an `NliScorer`.
        form: mocha, sentences or grounded.
        alpha: weight of fidelity, in [0, 1]; 1 − alpha is that of adequacy.
        unsupported: cost of a sentence that the references neither support nor contradict, in [0, 1].
        each_reference: whether each reference is also asked alone (`sentences`; see `claim_costs`).
        encoder: path, hub name or scorer for adequacy; by default the NLI model's own encoder.
        baseline: F1 of unrelated captions under that encoder (`TokenMatchingScorer.unrelated_f1`; .47 is that of a
            MiniLM on COCO).
        grounding: a `Grounding`, or a mapping of its numbers (`grounded`; by default those of a MiniLM).
        device: where the models run.
    """

    name, range, needs, version = "hallucination", (-1.0, 1.0), frozenset({"references"}), "2"

    def __init__(
        self,
        nli: Any,
        form: Literal["mocha", "sentences", "grounded"] = "mocha",
        alpha: float = 0.5,
        unsupported: float = 0.3,
        each_reference: bool = True,
        encoder: Any = None,
        baseline: float = 0.47,
        grounding: Any = None,
        device: str = "cpu",
    ) -> None:
        if form not in ("mocha", "sentences", "grounded"):
            raise ValueError(f"form must be mocha, sentences or grounded, got {form!r}")
        check_number("alpha", alpha, low=0, high=1)
        check_number("unsupported", unsupported, low=0, high=1)
        self.form, self.alpha, self.unsupported, self.each = form, alpha, unsupported, each_reference
        self.nli = NliScorer.load(nli, device) if isinstance(nli, str) else nli
        if form == "grounded" and not isinstance(grounding, Grounding):
            grounding = Grounding.from_nli(self.nli, **(grounding or {}))
        self.grounding = grounding
        if encoder is None and alpha < 1:
            encoder = TokenMatchingScorer.from_nli(self.nli, baseline=baseline)
        self.encoder = (
            TokenMatchingScorer.load(encoder, device, baseline=baseline) if isinstance(encoder, str) else encoder
        )

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without references abstains."""
        references = [sample.references for sample in batch.samples]
        rows = [i for i, texts in enumerate(references) if texts and batch.captions[i]]
        captions, kept = [batch.captions[i] for i in rows], [references[i] for i in rows]
        claim_inputs = captions, kept, self.unsupported, self.each
        spans: list[tuple[Span, ...] | None] = [None] * len(rows)
        if self.form == "mocha":
            fidelity_costs = mean_contradictions(self.nli, captions, kept)
        elif self.form == "sentences":
            costs = sentence_costs(self.nli, *claim_inputs)
            fidelity_costs = [sum(row) / len(row) for row in costs]
            spans = [sentence_spans_of_costs(caption, row) for caption, row in zip(captions, costs, strict=True)]
        else:
            sentences = grounded_sentences(self.nli, self.grounding, *claim_inputs)
            fidelity_costs = [caption_cost(row, self.grounding.worst) for row in sentences]
            spans = [
                grounded_spans(caption, row, self.grounding.share)
                for caption, row in zip(captions, sentences, strict=True)
            ]
        f1_values = self.encoder.best_f1(captions, kept) if self.alpha < 1 else [0.0] * len(rows)
        metrics = {"nli_truncated": self.nli.truncated_share}
        scores = {}
        for i, f, a, parts in zip(rows, fidelity_costs, f1_values, spans, strict=True):
            value = self.alpha * fidelity(f) + (1 - self.alpha) * adequacy(a)
            scores[i] = Score(max(-1.0, min(1.0, value)), spans=parts)
        if rows:
            metrics["cost"] = sum(fidelity_costs) / len(rows)
        return RewardOutput(
            [
                scores.get(i, Score(self.range[0])) if texts else Score.abstain("no reference to compare with")
                for i, texts in enumerate(references)
            ],
            metrics,
        )
