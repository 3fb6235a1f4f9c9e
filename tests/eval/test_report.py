"""The report needs only the run folder, names missing files, and shows captions as plain text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from run_folder import HOSTILE, write_run
from tiny import lab_samples

from rlcap.eval.captions_file import write_rows
from rlcap.eval.report.page import write_report
from rlcap.eval.run_files import thumbnail
from rlcap.eval.summary import summarise


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return lab_samples(tmp_path_factory.mktemp("lab"), 21)


@pytest.fixture
def run(tmp_path, samples):
    return write_run(tmp_path / "run", samples, hostile=HOSTILE)


def visible(page):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", page, flags=re.S))


def attributes(page):
    """Return the names of all attributes of all elements, as a browser reads them: a title's text holds none."""
    names = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, found: names.update(name for name, _ in found)
    parser.feed(page)
    return names


def test_report_is_one_file_that_loads_nothing(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = path.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert len(page) < 2_000_000
    assert str(run) not in page


def test_only_our_own_script_may_run(run):
    page = write_report(run).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page
    assert page.count("<script") == 1
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp", script)
    assert not [name for name in attributes(page) if name.startswith("on")]  # such as onclick


def test_captions_and_config_are_escaped(run):
    page = write_report(run).read_text()
    assert "&lt;script&gt;document.title" in page
    assert "# &lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;is it so?" in page


def test_report_shows_what_got_better_and_by_how_much(run):
    text = visible(write_report(run).read_text())
    assert "The captions became" in text
    assert "more faithful" in text
    change = json.loads((run / "summary.json").read_text())["changes"][0]["metrics"]["hallucination_rate"]
    shown = f"{100 * change['difference']['mean']:+.1f}".replace("-", "−")
    assert f"{shown} points" in text
    assert "Wrong attributes per caption" in text
    for part in ("bags of 5", "critique abstained", "Notes of the rewards", "0123abc", "prior_breaking"):
        assert part in text


def test_false_sentences_are_underlined_with_their_reason(run):
    page = write_report(run).read_text()
    found = re.findall(r'<u class="false" title="not in the image: ([^"]+)">([^<]+)</u>', page)
    assert found
    assert all(sentence.endswith(".") for _, sentence in found)


def test_missing_files_are_named(run):
    for name in ("config.yaml", "run.json", "metrics.jsonl", "panel.jsonl"):
        (run / name).unlink()
    text = visible(write_report(run).read_text())
    assert "there is no config.yaml" in text
    assert "there is no run.json" in text
    assert "metrics.jsonl is missing" in text
    assert "There is no panel.jsonl, so these are some of the evaluated images" in text


def test_a_summary_alone_is_enough(run):
    import shutil

    summary = (run / "summary.json").read_text()
    shutil.rmtree(run)
    run.mkdir()
    (run / "summary.json").write_text(summary)
    text = visible(write_report(run).read_text())
    assert "The captions became" in text
    assert "neither panel.jsonl nor captions" in text
    assert "no two evaluations with captions" in text


def test_one_evaluation_is_shown_without_a_comparison(run):
    for path in (run / "captions").iterdir():
        if path.stem != "0":
            path.unlink()
    summarise(run)
    text = visible(write_report(run).read_text())
    assert "Nothing to compare yet" in text
    assert "Facts stated" in text


def test_missing_images_are_named(run, tmp_path):
    rows = [
        {"sample_id": "x", "image": str(tmp_path / "gone.png"), "caption": "", "split": "test", "metrics": {"a_b": 1.0}}
    ]
    other = tmp_path / "other"
    write_rows(other, 0, rows)
    summarise(other)
    text = visible(write_report(other).read_text())
    assert "gone.png has been moved or deleted" in text
    assert "(empty caption)" in text
    assert "a b" in text


def test_a_metric_that_got_worse_is_reported_as_worse(tmp_path):
    for step, rate, recall in ((0, 0.1, 0.4), (50, 0.3, 0.6)):
        rows = [
            {"sample_id": str(i), "image": "x.png", "caption": f"c{step}", "split": "test",
             "metrics": {"hallucination_rate": rate + 0.01 * (i % 3), "fact_recall": recall + 0.01 * (i % 4)}}
            for i in range(20)
        ]  # fmt: skip
        write_rows(tmp_path, step, rows)
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for step in range(1, 51):
            reward = {"reward/clip/mean": step / 50, "reward/clip/std_within_group": 0.2}
            file.write(json.dumps({"step": step, "seconds": 60.0 + step, "metrics": reward}) + "\n")
        file.write('{"step": 51, "sec')
    (alarm,) = summarise(tmp_path)["alarms"]
    assert alarm["rose"] == ["clip"]
    assert alarm["worse"] == ["hallucination_rate"]
    text = visible(write_report(tmp_path).read_text())
    assert "The captions became more detailed. The captions did not become more faithful, but the opposite." in text
    assert (
        "Reward over-optimization on test. Rewards rose (clip) while held-out metrics got worse: false claims among claims."
        in text
    )
    assert "1 min 50 s" in text


def test_fewer_random_distractors_are_named_by_their_number_and_are_main_metrics(tmp_path):
    for step, hits in ((0, 10), (40, 40)):
        rows = [
            {"sample_id": f"{i}", "image": "", "caption": "a ball.", "split": "test",
             "metrics": {"rd42_recall_at_1": float(i < hits), "rd42_mean_rank": 3.0}}
            for i in range(42)
        ]  # fmt: skip
        write_rows(tmp_path, step, rows)
    assert "rd42_recall_at_1" in summarise(tmp_path)["changes"][0]["metrics"]
    text = visible(write_report(tmp_path).read_text())
    assert "Finds its image among 41 random others" in text
    assert "The captions became more distinctive." in text


def test_thumbnails_are_small(samples, tmp_path):
    from PIL import Image

    assert thumbnail(samples[0].image, 256).startswith("data:image/png;base64,")
    Image.effect_noise((2000, 1500), 60).convert("RGB").save(tmp_path / "photo.jpg")
    uri = thumbnail(str(tmp_path / "photo.jpg"), 256)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 80_000


def test_a_broken_metrics_line_is_named(run):
    path = run / "metrics.jsonl"
    path.write_text("half a li\n" + path.read_text())
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1 is not JSON"):
        write_report(run)
    with pytest.raises(FileNotFoundError, match=r"summary\.json does not exist"):
        write_report(run.parent)


def test_a_critique_is_readable(run):
    rows = [json.loads(line) for line in (run / "panel.jsonl").read_text().splitlines()]
    note = "<critique>Look again.</critique>\n<wrong>\n- the box is <i>red\n</wrong>"
    verdict = "<critique>Add the box.</critique>\n<wrong>\nnone\n</wrong>\n<missing>\n- the box\n- the ball\n</missing>\n<score>7.41</score>"
    rows[-1]["notes"], rows[-2]["notes"] = {"critique": verdict}, {"critique": note}
    (run / "panel.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run).read_text()
    text = visible(page)
    assert "critique Add the box. Wrong: none Missing the box the ball Score: 7.41" in text
    assert "&lt;missing&gt;" not in page
    assert "&lt;wrong&gt;" in page  # a note of another form stays as it is, as text


def test_a_change_of_nothing_has_no_sign(tmp_path):
    for step, recall in ((0, 0.5), (40, 0.49999)):
        rows = [
            {
                "sample_id": f"{i}",
                "image": "",
                "caption": "a ball.",
                "split": "test",
                "metrics": {"fact_recall": recall},
            }
            for i in range(20)
        ]
        write_rows(tmp_path, step, rows)
    summarise(tmp_path)
    text = visible(write_report(tmp_path).read_text())
    assert "0.0 (0 %)" in text
    assert not re.search(r"[+−-]0(\.0+)?\b(?!\.\d)", text)


def test_the_table_of_captions_has_every_image_before_and_after(run):
    page = write_report(run).read_text()
    table = page.split('id="captions"')[1].split("</section>")[0]
    rows = re.findall(r'<tr data-split="([^"]*)" data-gain="([^"]*)">(.*?)</tr>', table, flags=re.S)
    assert len(rows) == 21
    assert [split for split, *_ in rows] == ["test"] * 14 + ["prior_breaking"] * 7
    assert all(row.count('class="said"') == 2 and row.count('class="number"') == 3 for *_, row in rows)
    assert any(float(gain) > 0 for _, gain, _ in rows)
    assert "&lt;script&gt;document.title" in rows[0][2]
    assert 'class="false"' in table


def test_a_large_table_of_captions_is_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("rlcap.eval.report.captions_table.MAX_ROWS", 5)
    rows = [
        {"sample_id": f"{i}", "image": "", "caption": "a ball.", "split": "test", "metrics": {"fact_recall": 0.5}}
        for i in range(20)
    ]
    write_rows(tmp_path, 0, rows)
    summarise(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "The table shows 5 of 20 images" in page
    assert page.count("<tr data-split") == 5
    assert '<button type="button" disabled>Caption</button>' in page  # there is no before


def test_without_a_panel_the_images_do_not_stand_beside_each_other(tmp_path):
    rows = [
        {"sample_id": f"{i:03}", "image": "", "caption": "a ball.", "split": "test", "metrics": {"fact_recall": 0.5}}
        for i in range(300)
    ]
    write_rows(tmp_path, 0, rows)
    summarise(tmp_path)
    ids = re.findall(r'<article class="card image" aria-label="Image (\d+)">', write_report(tmp_path).read_text())
    assert len(ids) == 8
    assert max(map(int, ids)) > 200


def words_section(page):
    return page.split('id="words"')[1].split("</section>")[0]


def test_words_are_coloured_by_what_the_rewards_said(run):
    page = write_report(run).read_text()
    section = words_section(page)
    text = visible(section)
    assert "Sampled captions of training step 120" in text
    assert "These values did not change the training" in text
    assert section.count("<article") == 4
    assert text.count("highest advantage +1.00") == text.count("lowest advantage −1.00") == 4
    assert {"up", "down", "even"} == set(re.findall(r'<mark class="(\w+)" style="--v:[01]\.\d\d" title="', section))
    assert "−0.75 “" in text
    assert "32 weaker parts are left out" in text
    assert "<img" not in section  # these rows name no image
    assert "&lt;script&gt;document.title" in section
    assert not re.findall(r"<(?!/?(?:article|b|dd|details|div|dl|dt|h2|h4|li|mark|p|summary|ul)\b)", section)
    assert not re.findall(
        r'<mark class="\w+" style="[^"]*" title="[^"]*"[^>]', section
    )  # a label stays in its attribute


def test_the_section_of_words_says_whether_training_used_them(run, samples):
    (run / "config.yaml").write_text("train: {credit: claim}\n")
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    rows = [row | {"image": samples[0].image} for row in rows]
    (run / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = words_section(write_report(run).read_text())
    assert "These values changed the advantages of the words" in section
    assert section.count("<img") == 4


@pytest.mark.parametrize("change", ["no file", "no key", "nothing said"])
def test_a_run_without_spans_has_no_section_of_words(run, change):
    path = run / "rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.pop("spans")
        if change == "nothing said":
            row["spans"] = {}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if change == "no file":
        path.unlink()
    page = write_report(run).read_text()
    assert 'id="words"' not in page
    assert "Legend" not in page


def test_the_weights_of_terms_with_a_target_are_drawn(run):
    assert "Weights of terms with a target" not in write_report(run).read_text()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["metrics"]["reward/critique/multiplier"] = 1.0 + 0.01 * row["step"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run).read_text()
    assert "Weights of terms with a target" in page
    assert "1.01 → " in page
