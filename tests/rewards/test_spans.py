"""What rewards say of parts of a caption: the right words, with the right sign."""

from __future__ import annotations

import pytest
import torch

from rlcap.rewards.chair import Chair
from rlcap.rewards.claims.parsing import Claim
from rlcap.rewards.grammar import Grammar
from rlcap.rewards.hallucination import Hallucination
from rlcap.rewards.repetition import Repetition
from rlcap.rewards.self_retrieval import SelfRetrieval
from rlcap.rewards.vqa_score import VqaScore
from rlcap.scorers.grounding import GroundedSentence
from rlcap.types import RewardBatch, Sample

CAPTION = "A red ball is at the top. A cat sleeps. A red ball is at the top."


def spans_of(reward, caption, **sample):
    batch = RewardBatch([caption], [Sample("a", sample.pop("image", ""), **sample)], distractor_images=[("cat.png",)])
    score = reward.check_output(reward.score(batch), batch)[0]
    return {caption[span.start : span.end]: span.value for span in score.spans}


class WordNli:
    """A sentence with a cat is contradicted, every other one is supported."""

    truncated_share = 0.0

    def probabilities(self, premises, hypotheses):
        return torch.tensor([[0.0, 0.0, 1.0] if "cat" in text else [1.0, 0.0, 0.0] for text in hypotheses])


def test_hallucination_marks_the_contradicted_sentence():
    reward = Hallucination(WordNli(), form="sentences", alpha=1.0, unsupported=0.3)
    spans = spans_of(reward, CAPTION, references=("a red ball",))
    assert spans == {"A red ball is at the top.": 0.0, "A cat sleeps.": -1.0}


def test_mocha_judges_only_the_whole():
    reward = Hallucination(WordNli(), alpha=1.0)
    assert reward.score(RewardBatch([CAPTION], [Sample("a", "", references=("a ball",))]))[0].spans is None


def test_grounded_marks_the_words_that_no_reference_supports():
    from rlcap.rewards.hallucination import grounded_spans

    caption = "2 dogs run. A dog sees a dog."
    sentences = [
        GroundedSentence("two dogs run.", 0.5, 0.2, (("two", 0.1), ("dogs", 0.9), ("run", 0.4))),
        GroundedSentence("A dog sees a dog.", 0.5, 0.0, (("dog", 0.0), ("sees", 0.8), ("dog", 0.5))),
    ]
    spans = [(caption[s.start : s.end], round(s.value, 3)) for s in grounded_spans(caption, sentences, 0.5)]
    assert spans == [
        ("2 dogs run.", -0.1), ("dogs", -0.45), ("run", -0.2),
        ("A dog sees a dog.", 0.0), ("dog", 0.0), ("sees", -0.4), ("dog", -0.25),
    ]  # fmt: skip


def test_repetition_marks_the_second_occurrence():
    spans = Repetition().score(RewardBatch([CAPTION], [Sample("a", "")]))[0].spans
    assert min(span.start for span in spans) > CAPTION.index("sleeps")
    assert {CAPTION[s.start : s.end] for s in spans} <= {"ball", "is", "at", "the", "top", "red"}
    assert Repetition().score(RewardBatch(["A red ball."], [Sample("a", "")]))[0].spans == ()


class Doubtful:
    def probabilities(self, texts, *more):
        return torch.tensor([0.3 if "cat" in text else 0.95 for text in texts])


def test_grammar_marks_the_bad_sentence():
    spans = spans_of(Grammar(Doubtful()), "A red ball. Cat a sleeps cat.")
    assert spans == {"A red ball.": 0.0, "Cat a sleeps cat.": pytest.approx(0.3 / 0.9 - 1)}


class Verifier:
    def probabilities(self, images, questions):
        return [0.1 if "cat" in question else 0.9 for question in questions]


def test_vqa_score_gives_each_sentence_its_probability(tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    assert spans_of(VqaScore(Verifier()), CAPTION, image=str(path)) == {
        "A red ball is at the top.": 0.9,
        "A cat sleeps.": 0.1,
    }


def test_chair_marks_absent_and_present_objects():
    spans = spans_of(Chair(), "Two dogs and a cat lie on a sofa.", references=("a dog on a couch",))
    assert spans == {"dogs": 1.0, "cat": -1.0, "sofa": 1.0}


class Retriever:
    """Cosine with an image: the share of a text's sentences that name it."""

    logit_scale = 10.0

    def image_embeddings(self, paths):
        return [torch.tensor([1.0, 0.0]) if "dog" in path else torch.tensor([0.0, 1.0]) for path in paths]

    def text_embeddings(self, texts, pooling="sentences"):
        from types import SimpleNamespace

        vectors = torch.tensor([[float(t.count("dog")), float(t.count("cat"))] for t in texts]).reshape(-1, 2)
        return SimpleNamespace(
            vectors=torch.nn.functional.normalize(vectors, dim=1),
            empty=torch.tensor([not text for text in texts]),
            truncated_fraction=0.0,
        )


def test_self_retrieval_pays_the_sentence_that_finds_the_image():
    reward = SelfRetrieval(Retriever(), by_sentence=True, candidates=2)
    spans = spans_of(reward, "A dog runs. A cat sleeps.", image="dog.png")
    assert spans["A dog runs."] > 0 > spans["A cat sleeps."]
    alone = spans_of(reward, "A dog runs.", image="dog.png")
    assert next(iter(alone.values())) > 0  # without it nothing is left, which finds nothing


def judged(kind, verdict, caption, sample=None, **fields):
    reward = object.__new__(kind)
    for name, value in fields.items():
        setattr(reward, name, value)
    spans = reward.find_spans(verdict, caption, sample or Sample("a", ""))
    return {caption[span.start : span.end]: span.value for span in spans}


def test_critique_marks_what_the_judge_calls_wrong():
    from rlcap.judge.parsing import Verdict
    from rlcap.rewards.critique import Critique

    verdict = Verdict("no", ("a cat is asleep",), ("a cup",), 3.0)
    assert judged(Critique, verdict, "A red ball. A cat sleeps.", form="score") == {"A cat sleeps.": -1.0}


def test_claims_mark_true_false_and_open_claims():
    from rlcap.rewards.claims import Claims

    claims = [
        Claim("there is a red ball", True, True, 0),
        Claim("a cat sleeps", False, True, None),
        Claim("the mood is calm", None, False, None),
    ]
    assert judged(Claims, claims, "A red ball. A cat sleeps.", unknown=0.5) == {
        "A red ball.": 1.0,
        "a cat sleeps".capitalize(): -1.0,
    }


def test_rubric_marks_what_the_reasons_quote():
    from rlcap.rewards.rubric import Rubric
    from rlcap.rewards.rubric.parsing import CriterionResult

    sample = Sample(
        "a", "", meta={"rubric": [{"criterion": "says red", "weight": 3}, {"criterion": "no cat", "weight": 1}]}
    )
    results = [CriterionResult('it says "red ball"', True), CriterionResult("it says 'A cat'", False)]
    assert judged(Rubric, results, "A red ball. A cat sleeps.", sample, make_rubric=None) == {
        "red ball": 3.0,
        "A cat": -1.0,
    }
