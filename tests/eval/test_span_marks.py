"""Coloured words: parts add up to the caption, sums decide the colour, and texts of captions and rewards are escaped."""

import json
import re

import pytest

from rlcap.errors import InputError
from rlcap.eval.report.span_marks import mark_parts, marked_images, quote, split_at_spans, strongest_spans
from rlcap.eval.rollouts import read_rollouts, read_spans, rollout_steps
from rlcap.types import Span


def row(id, advantage, spans=None, caption="A red ball. A cat."):
    return {"step": 2, "sample_id": id, "caption": caption, "advantage": advantage, "spans": spans or {}}


def test_parts_are_the_caption_with_the_sums_of_their_spans():
    caption = "A red ball. A cat."
    spans = [Span(0, 11, -1.0, "wrong"), Span(2, 5, 0.5, "red"), Span(12, 99, 0.25)]
    parts = split_at_spans(caption, spans)
    assert [(part.text, part.value) for part in parts] == [
        ("A ", -1.0), ("red", -0.5), (" ball.", -1.0), (" ", 0), ("A cat.", 0.25),
    ]  # fmt: skip
    assert "".join(part.text for part in parts) == caption
    assert [len(part.spans) for part in parts] == [1, 2, 1, 0, 1]
    assert split_at_spans("", [Span(0, 3, 1.0)]) == []
    assert [part.text for part in split_at_spans("ab", [Span(5, 6, 1.0)])] == ["ab"]


def test_marks_have_a_direction_a_strength_and_a_reason():
    spans = [Span(0, 1, -2.0, "bad"), Span(1, 2, 1.0, "good"), Span(2, 3, 0.01, "little"), Span(0, 1, 1.0)]
    html = str(mark_parts(split_at_spans("abcd", spans), 2.0))
    assert html == (
        '<mark class="down" style="--v:0.50" title="−1.00 in all: −2.00 bad; +1.00">a</mark>'
        '<mark class="up" style="--v:0.50" title="+1.00 good">b</mark>'
        '<mark class="even" style="--v:0.01" title="+0.01 little">c</mark>d'
    )
    assert 'class="even"' in mark_parts(split_at_spans("a", [Span(0, 1, 0.0)]), 0.0)


def test_what_comes_from_outside_is_escaped():
    hostile = '"><script>alert(1)</script>'
    html = str(mark_parts(split_at_spans(hostile * 2, [Span(0, len(hostile), -1.0, hostile)]), 1.0))
    assert html.count("<") == 2
    assert re.fullmatch(r'<mark class="down" style="--v:1.00" title="[^"<>]*">[^"<>]*</mark>[^"<>]*', html)


def test_the_strongest_come_first():
    spans = [Span(i, i + 1, (-1) ** i * i / 10, str(i)) for i in range(12)]
    assert [span.label for span in strongest_spans(spans)] == [str(i) for i in range(11, 3, -1)]
    assert quote("one\n  two", Span(0, 9, 1.0)) == "one two"
    assert len(quote("x" * 200, Span(0, 200, 1.0))) == 60


def test_the_captions_with_extreme_advantages_are_shown():
    spans = {"critique": [[0, 11, -1.0, "wrong"]]}
    rows = [row("a", 0.5, spans), row("a", -1.0, spans), row("a", 0.0), row("b", 0.0), row("c", 0.0, spans)]
    images = {image["id"]: image for image in marked_images([rows], 6)}
    assert set(images) == {"a", "c"}  # nothing was said of b
    ((high, low),) = images["a"]["runs"]
    assert (high["rank"], high["advantage"], low["rank"], low["advantage"]) == ("highest", "+0.50", "lowest", "−1.00")
    ((only,),) = images["c"]["runs"]
    assert only["rank"] == "equal"
    assert only["terms"][0]["strongest"] == [("−1.00", "A red ball.", "wrong")]
    assert len(marked_images([[row(str(i), 0.0, spans) for i in range(20)]], 6)) == 6
    assert marked_images([[]], 6) == []


def test_strength_is_relative_to_all_captions_that_are_shown():
    rows = [row("a", 1.0, {"t": [[0, 1, 0.5, ""]]}), row("a", 0.0, {"t": [[0, 1, 2.0, ""]]})]
    other = [row("a", 0.0, {"t": [[0, 1, -4.0, ""]]})]
    ((high, _), (elsewhere,)) = marked_images([rows, other], 4)[0]["runs"]
    assert "--v:0.12" in high["terms"][0]["html"]
    assert "--v:1.00" in elsewhere["terms"][0]["html"]
    assert marked_images([rows, [row("b", 0.0)]], 4) == []  # no image in common


def test_the_rows_of_the_last_step_come_from_all_processes(tmp_path):
    for name, ids in (("rollouts.jsonl", "ab"), ("rollouts-1.jsonl", "cd")):
        rows = [row(id, 0.0) | {"step": step} for step in (1, 3) for id in ids]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "sam')
    assert rollout_steps(tmp_path) == {1, 3}
    assert [(row["step"], row["sample_id"]) for row in read_rollouts(tmp_path)] == [(3, id) for id in "abcd"]
    assert [row["sample_id"] for row in read_rollouts(tmp_path, 1)] == ["a", "b", "c", "d"]
    assert read_rollouts(tmp_path, 2) == []
    assert read_rollouts(tmp_path / "none") == []
    (tmp_path / "rollouts.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match=r"rollouts\.jsonl: .* is no sampled caption"):
        read_rollouts(tmp_path)


def test_rows_without_spans_and_with_broken_ones():
    old = {"step": 1, "sample_id": "a", "caption": "A.", "advantage": 0.0}
    assert read_spans(old) == {}
    assert read_spans(old | {"spans": {"critique": []}}) == {}
    for broken in ({"critique": [[0]]}, {"critique": [[3, 1, 0.0, ""]]}, [1], {"critique": 5}):
        with pytest.raises(InputError, match="the spans of a at step 1"):
            read_spans(old | {"spans": broken})
