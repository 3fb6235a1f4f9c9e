"""Comparing runs: which differences are clear, and which runs can't be compared."""

import json

import numpy as np
import pytest

from rlcap.errors import InputError
from rlcap.eval.captions_file import write_rows
from rlcap.eval.compare import compare, to_markdown
from rlcap.eval.report.compare_page import write_comparison

IDS = [f"image-{i}" for i in range(40)]


def run(folder, facts, words=10.0, ids=IDS, retriever="r", split="test", last=9, tokenizer=None):
    """Write a run folder whose captions have the fact recall `facts`, (40,) or one number, at the step `last`."""
    for step, recall in ((0, 0.25), *([(last, facts)] if last else [])):
        values = np.broadcast_to(recall, len(ids))
        write_rows(
            folder,
            step,
            [
                {"sample_id": id, "image": "", "caption": "a ball.", "split": split,
                 "metrics": {"fact_recall": float(value), "mean_words": words, "claims": 2.0, "bag5_recall_at_1": 1.0}}
                for id, value in zip(ids, values, strict=True)
            ],
        )  # fmt: skip
    (folder / "config.yaml").write_text(
        f"evaluation: {{retriever: {retriever}, retriever_pretrained: null, nli: null"
        f"{f', tokenizer: {tokenizer}' if tokenizer else ''}}}\n"
    )
    return folder


def test_a_difference_is_paired_by_image(tmp_path):
    hard = np.linspace(0, 1, 40)  # images differ far more than the two runs do
    a, b = run(tmp_path / "a", hard), run(tmp_path / "b", np.clip(hard + 0.01, 0, 2), ids=IDS)
    found = compare([[a], [b]])
    row = {row.metric: row for row in found.rows}["fact_recall"]
    assert row.start.mean == 0.25
    assert row.differences[0].mean == pytest.approx(0.01)
    assert row.differences[0].low > 0
    assert row.verdicts() == ("better",)
    assert row.p_values[0] < 0.001
    assert "**+1.0 [+1.0, +1.0]** better, p < 0.001" in to_markdown(found)
    assert "- More detailed: b, " in to_markdown(found)
    assert found.to_dict()["goals"][-1]["clearly_better_than"] == ["a"]


def test_images_are_matched_by_name_and_only_common_ones_count(tmp_path):
    a = run(tmp_path / "a", np.arange(40.0))
    b = run(tmp_path / "b", np.arange(30.0)[::-1], ids=IDS[:30][::-1])
    found = compare([[a], [b]])
    assert found.images == 30
    assert found.left_out == ("bag5_recall_at_1",)  # the bag of an image depends on the other held-out images
    assert "left out, since the runs held out different images: bag5_recall_at_1" in to_markdown(found)
    assert {row.metric: row for row in found.rows}["fact_recall"].differences[0][:3] == (0, 0, 0)


def test_seeds_are_part_of_the_interval(tmp_path):
    a = [run(tmp_path / f"a-{seed}", 0.5) for seed in range(3)]
    b = [run(tmp_path / f"b-{seed}", 0.5 + gain) for seed, gain in enumerate((-0.2, 0.0, 0.4))]
    found = compare([a, b])
    assert found.names == ("a", "b")
    assert found.seeds == 3
    difference = {row.metric: row for row in found.rows}["fact_recall"].differences[0]
    assert difference.mean == pytest.approx(0.2 / 3)
    assert difference.low < 0 < difference.high
    text = to_markdown(found)
    assert "with probability .8 this design finds a true difference of" in text
    assert "points in “Facts stated”" in text
    plain = {row["metric"]: row for row in found.to_dict()["rows"]}["fact_recall"]
    assert plain["detectable"][0] > difference.high - difference.mean
    assert plain["p_values"] == [1.0] or 0 < plain["p_values"][0] <= 1


def test_main_metrics_or_all(tmp_path):
    variants = [[run(tmp_path / name, 0.5)] for name in "abc"]
    assert [row.metric for row in compare(variants).rows] == ["bag5_recall_at_1", "fact_recall", "mean_words"]
    found = compare(variants, every=True)
    assert {row.metric for row in found.rows} == {"bag5_recall_at_1", "fact_recall", "mean_words", "claims"}
    assert len(found.rows[0].differences) == 2
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"][0]["differences"][1]["mean"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retriever": "other"}, "evaluation.retriever is 'r' in"),
        ({"tokenizer": "ptb"}, "evaluation.tokenizer is 'words' in"),
        ({"ids": [f"{id}x" for id in IDS]}, "no image of 'test' in common"),
        ({"split": "validation"}, "has no captions of 'test'"),
        ({"last": 0}, "captioned last at step 0; a run must have ended"),
    ],
)
def test_incomparable_runs_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        compare([[run(tmp_path / "a", 0.5)], [run(tmp_path / "b", 0.5, **change)]])


def test_runs_of_a_variant_end_at_the_same_step_but_variants_may_differ(tmp_path):
    a = [run(tmp_path / "a-0", 0.5), run(tmp_path / "a-1", 0.5, last=4)]
    b = [run(tmp_path / "b-0", 0.5, last=4), run(tmp_path / "b-1", 0.5, last=4)]
    with pytest.raises(InputError, match="at step 4, 9"):
        compare([a, b])
    found = compare([[a[0]], [b[0]]])
    assert found.steps == (9, 4)
    assert "| a-0, step 9 | b-0, step 4 |" in to_markdown(found)


def test_a_truncated_file_is_named(tmp_path):
    a, b = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.5)
    file = b / "captions" / "9.jsonl"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(InputError, match="line 40 is not a captions row"):
        compare([[a], [b]])
    (a / "config.yaml").write_text("evaluation: [")
    with pytest.raises(InputError, match="is not YAML"):
        compare([[a], [a]])


def test_variants_need_equally_many_seeds(tmp_path):
    a, b = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.5)
    with pytest.raises(InputError, match="got 2, 1 runs"):
        compare([[a, b], [b]])
    with pytest.raises(InputError, match="got 1 runs"):
        compare([[a]])


def sample(folder, steps, ids, label="said"):
    """Write what a run sampled: two captions an image, of which a reward said something of the first word."""
    rows = [
        {"step": step, "sample_id": id, "caption": f"Caption {step}.{i} of {folder.name}.", "advantage": float(i),
         "spans": {"critique": [[0, 7, i - 0.5, label]]}}
        for step in steps for id in ids for i in range(2)
    ]  # fmt: skip
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def page(tmp_path, *runs):
    write_comparison(tmp_path / "page.html", compare([[run] for run in runs]), [[run] for run in runs])
    return (tmp_path / "page.html").read_text()


def test_the_page_shows_the_words_of_the_last_common_step_side_by_side(tmp_path):
    a, b = run(tmp_path / "a", np.arange(40.0)), run(tmp_path / "b", np.arange(40.0) + 1)
    sample(a, (1, 3, 5), ("x", "y", "z"), label="<script>")
    sample(b, (1, 3), ("w", "x", "y"))
    text = page(tmp_path, a, b)
    assert '<th scope="col">b − a</th>' in text
    assert "▲ better" in text
    assert "training step 3, the last" in text
    words = text[text.index('id="words"') :]
    assert words.count("<article") == 2  # x and y
    for name in "ab":
        for i in range(2):
            kind, value = (("down", "−0.50"), ("up", "+0.50"))[i]
            assert f'<mark class="{kind}" style="--v:1.00" title="{value} ' in text
            assert text.count(f"</mark> 3.{i} of {name}.</dd>") == 2
    assert text.count("<script") == 1
    assert "script-src 'sha256-" in text
    sample(b, range(1, 4), [f"{i}" for i in range(9)])
    sample(a, range(1, 4), [f"{i}" for i in range(9)])
    text = page(tmp_path, a, b)
    assert text[text.index('id="words"') :].count("<article") == 4


def test_the_page_says_which_variant_to_choose_and_shows_charts_and_images(tmp_path):
    spread = np.linspace(-0.1, 0.1, 40)
    text = page(tmp_path, run(tmp_path / "a", 0.5 + spread), run(tmp_path / "b", 0.7 + spread, words=12.0))
    assert "b is best at every goal, clearly in 1 of 2." in text
    assert text.count('class="plot scatter"') == 1
    assert "Length of captions" in text
    assert "Where b gains most, and where it loses most" in text
    assert text.count("<article") == 4  # every image gains, so that there are no losses
    assert "Facts stated: 40.0" in text


def test_runs_without_words_in_common_get_a_page_with_the_table_alone(tmp_path):
    a, b = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.5)
    assert 'id="words"' not in page(tmp_path, a, b)
    sample(a, (1,), "x")
    assert 'id="words"' not in page(tmp_path, a, b)
    sample(b, (1,), "y")
    assert "no clear change" in page(tmp_path, a, b)
    assert 'id="words"' not in page(tmp_path, a, b)


def test_the_command_writes_the_page(tmp_path, capsys):
    from rlcap.cli import main as cli

    a, b = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.5)
    assert cli.main(["compare", str(a), str(b), "--html", str(tmp_path / "page.html")]) == 0
    assert "page.html" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
