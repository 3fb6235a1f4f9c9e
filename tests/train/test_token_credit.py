"""Spans of characters become values of tokens."""

from __future__ import annotations

import pytest
import torch

from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.reward.mix import MixScores
from rlcap.train.token_credit import end_values, span_means, token_values
from rlcap.types import Score, Span

CAPTION = "a red ball is at the top. a cup is blue."


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def scores_of(*scores, **terms):
    terms = {"term": list(scores)} if scores else terms
    return MixScores(tuple(terms), torch.zeros(0), terms, (1.0,) * len(terms), {})


def encode(tokenizer, *captions):
    rows = [[*tokenizer(caption)["input_ids"], tokenizer.eos_token_id] for caption in captions]
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def test_tokens_get_the_sum_of_their_spans(tokenizer):
    captions = [CAPTION, "a cup."]
    ids, mask = encode(tokenizer, *captions)
    spans = (Span(2, 10, -1.0), Span(0, 25, -0.5), Span(26, 40, 2.0))
    scores = scores_of(Score(0.0, spans=spans), Score(0.0, spans=()))
    values = token_values(scores, captions, ids, mask, tokenizer)
    words = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    per_word = dict(zip(words[:9], values[0, 0, :9].tolist(), strict=True))
    assert per_word["red"] == per_word["ball"] == pytest.approx(-1.5)
    assert per_word["top"] == pytest.approx(-0.5)
    assert values[0, 0, 8:13].tolist() == pytest.approx([2.0] * 5)
    assert values[0, 0, 13] == 0  # the end token belongs to no sentence
    assert values[1, 0].tolist() == [0.0] * ids.shape[1]  # nothing to say of any part


def test_a_span_over_the_whole_caption_holds_the_end_token(tokenizer):
    ids, mask = encode(tokenizer, CAPTION)
    scores = scores_of(Score(0.0, spans=(Span(0, len(CAPTION), 0.7),)))
    assert token_values(scores, [CAPTION], ids, mask, tokenizer)[0, 0].tolist() == pytest.approx([0.7] * ids.shape[1])
    ends = end_values(scores, [CAPTION], ids, mask, tokenizer)[0, 0]
    assert ends.nonzero().flatten().tolist() == [ids.shape[1] - 1]


def test_spans_end_at_their_last_token(tokenizer):
    ids, mask = encode(tokenizer, CAPTION)
    scores = scores_of(Score(0.0, spans=(Span(2, 10, -1.0), Span(0, 25, 3.0))))
    ends = end_values(scores, [CAPTION], ids, mask, tokenizer)[0, 0]
    words = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert {words[i]: ends[i].item() for i in ends.nonzero().flatten().tolist()} == {"ball": -1.0, ".": 3.0}


def test_no_spans_and_abstentions_are_unknown(tokenizer):
    ids, mask = encode(tokenizer, CAPTION, CAPTION)
    scores = scores_of(
        silent=[Score(0.3), Score.abstain("no judge")], loud=[Score(0.0, spans=()), Score(0.0, spans=())]
    )
    values = token_values(scores, [CAPTION] * 2, ids, mask, tokenizer)
    assert values[:, 0].isnan().all()
    assert not values[:, 1].isnan().any()
    means = span_means(scores, [CAPTION] * 2)
    assert means[:, 0].isnan().all()
    assert means[:, 1].tolist() == [0.0, 0.0]


def test_the_mean_of_characters_stands_for_the_mean_of_tokens():
    caption = "abcd"
    assert span_means(scores_of(Score(0.0, spans=(Span(0, 2, 1.0),))), [caption]).item() == 0.5
    assert span_means(scores_of(Score(0.0, spans=(Span(0, 4, 0.3),))), [caption]).item() == pytest.approx(0.3)


@pytest.mark.parametrize(("start", "end", "value"), [(2, 2, 0.0), (-1, 3, 0.0), (0, 3, float("nan"))])
def test_spans_that_mean_nothing_are_refused(start, end, value):
    with pytest.raises(ValueError, match="span"):
        Span(start, end, value)


def test_an_abstention_says_nothing_of_any_part():
    with pytest.raises(ValueError, match="abstention has no spans"):
        Score(None, "down", spans=())
