"""ALOHa: has every object that the caption names a counterpart among the objects that are known to be there?

measures  the smallest (least) or the mean (mean) similarity of the caption's objects with their partners. Similarity:
          cosine of sentence vectors, at least 0. Partners: one to one, with the largest sum; an object without a
          partner has 0
range     [0, 1]; the empty caption gets 0 without a request, and so does one that names nothing for certain
needs     references or meta["objects"]
cost      one LLM call per new caption and one per new set of references, with replies cached on disk; one pass of the
          encoder
source    ALOHa (Petryk et al., NAACL 2024; arXiv 2404.02904): objects by GPT-3.5, all-mpnet-base-v2, Hungarian
          matching, the minimum. As published, objects of which the caption is unsure are left out, of the
          combinations of names that `or` leaves open the best one counts, and references count with all objects that
          they may name, and once more by the bare noun. The
          published code means to give unmatched objects 0 but does not, and gives silence a mean of 1.
          `meta["objects"]` takes the place of its detections
hack      one certain object and nothing else; a hedge before what is doubtful (`doubted: counted` counts it); wrong
          colours, places, counts and actions of right things, which cost little or nothing
guards    claims, caption_qa or self-retrieval for detail; hallucination for what is said of the objects; style for
          hedges
fails     one_word, cut_off, word_shuffle, one_missing; on 55, 38, 31 and 10 %, measured with the lab's rule-based lister and
          all-MiniLM-L6-v2. With form mean 55, 26, 21 and 14 %, and one_false on 26 %. It ties on repeated, rambling,
          injection and praise, and cut_off ties on 62 %. A large model's lists are not measured
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rlcap.judge.config import JudgeSpec
from rlcap.judge.grader import GradedCaption
from rlcap.reward.judge_reward import JudgeReward
from rlcap.reward.parameters import check_choice
from rlcap.rewards.aloha.parsing import ObjectReader, collect_known_objects, read_annotated
from rlcap.scorers.objects.matching import NameVectors, match_alternatives
from rlcap.types import Sample, Score


def aloha(values: Sequence[float], form: Literal["least", "mean"] = "least") -> float:
    """Pool the similarities of the caption's objects with their partners.

    Args:
        values: one similarity in [0, 1] for each object.
        form: least or mean; for 1, .8 and 0 they give 0 and .6.

    Returns:
        A value in [0, 1]; 0 without objects.
    """
    if not values:
        return 0.0
    return min(values) if form == "least" else sum(values) / len(values)


class Aloha(JudgeReward):
    """ALOHa as a reward.

    Args:
        judge: lists the objects of a text; see `rlcap.judge.config:JudgeConfig`. It is never shown the image.
        encoder: folder or hub name of a sentence encoder (`sentence-transformers/all-mpnet-base-v2`), or an object with
            `vectors`.
        form: least or mean.
        doubted: whether objects that the caption is not sure of are `left_out`, as published, or `counted`.
        device: where the encoder runs.
    """

    name, range, version = "aloha", (0.0, 1.0), "1"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", ObjectReader

    def __init__(
        self,
        judge: JudgeSpec,
        encoder: Any,
        form: Literal["least", "mean"] = "least",
        doubted: Literal["left_out", "counted"] = "left_out",
        device: str = "cpu",
    ) -> None:
        check_choice("form", form, ("least", "mean"))
        check_choice("doubted", doubted, ("left_out", "counted"))
        super().__init__(judge)
        if isinstance(encoder, str):
            from rlcap.scorers.sentence_vectors import SentenceEncoder

            encoder = SentenceEncoder.load(encoder, device)
        self.vectors, self.form, self.doubted = NameVectors(encoder), form, doubted

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Ask for the objects of the caption and, once for all captions of the image, for those of its references."""
        texts = [" ".join(text.split()) for text in sample.references]
        if not texts:
            return [(caption, sample)] if read_annotated(sample.meta.get("objects")) else []
        return [(caption, sample), ("\n".join(texts), sample)]

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Match the caption's objects with those that are known to be in the image."""
        if not graded:
            return Score.abstain("neither references nor meta['objects'] say what is in the image")
        for reply in graded:
            if reply.verdict is None:
                return super().aggregate([reply], sample)
        known = collect_known_objects(
            [mention for reply in graded[1:] for mention in reply.verdict], sample.meta.get("objects")
        )
        if not known:
            return Score.abstain("the references name no object", note=graded[1].reply)
        mentioned = [mention.names for mention in graded[0].verdict if mention.sure or self.doubted == "counted"]
        value, pairs = match_alternatives(
            self.vectors, mentioned, known, lambda similarities: aloha(similarities, self.form)
        )
        rows = [
            f"{' or '.join(names)} | {'nothing' if column is None else ' or '.join(known[column])} | {same:.2f}"
            for names, (column, same) in zip(mentioned, pairs, strict=True)
        ]
        return Score(value, note="\n".join(rows) or "It names no object.")
