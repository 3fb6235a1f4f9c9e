"""A fusion from source to files: resumption, outages, budgets, bad rows, the summary and the page."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_backends import FakeBackend
from fusion import Brightness, Joiner, photo, preset, write_rows

from rlcap.cli.main import main
from rlcap.config.loading import load_config
from rlcap.config.supervised import SFTConfig
from rlcap.data.loading import load_samples
from rlcap.data.source import load_splits
from rlcap.errors import BudgetExhaustedError, InputError, JudgeError
from rlcap.fuse.distillation import write_pairs
from rlcap.fuse.run import FusionFiles, run_fusion
from rlcap.io.lock import FolderLock
from rlcap.judge.backends.base import Completion

ROOT = Path(__file__).parents[2]


def run(chosen, source, out, **options):
    return run_fusion(chosen, load_samples(source), out, batch_size=4, cache=":memory:", progress=False, **options)


def test_rows_feed_training_as_they_are(tmp_path):
    source, out = write_rows(tmp_path, 10, licence=4), tmp_path / "out" / "fused.jsonl"
    summary = run(preset(verify={"mode": "flag"}), source, out)
    assert summary.rows == 10
    config = load_config(SFTConfig, None, [f"data.source={out}", "data.validation=2", "data.test=2"])
    splits, _ = load_splits(config.data)
    sample = splits["train"][0]
    assert sample.paragraph.startswith("a dog")
    assert len(sample.references) == 2
    assert sample.meta["licence"] == 4
    assert sample.meta["fusion"]["sentences"]
    assert not (tmp_path / "out" / "fused.jsonl.parts").exists()
    inside = tmp_path / "fused.jsonl"  # the photos lie below the folder of these rows, and may move with it
    run(preset(), source, inside)
    assert json.loads(inside.read_text().splitlines()[0])["image"] == "photos/0.png"


def test_the_summary_counts_what_happened(tmp_path, monkeypatch):
    monkeypatch.setattr(Joiner, "invented", ". A purple elephant flies.")
    source, out = write_rows(tmp_path, 5), tmp_path / "fused.jsonl"
    summary = run(preset(verify={"mode": "drop"}), source, out)
    values = json.loads(FusionFiles(out).summary.read_text())
    assert values["rows"] == 5
    assert values["sentences_dropped"] == {"no expert supports it": 5}
    assert values["statements"] == {"references": 10, "light": 5}
    assert values["statements_used"]["references"] == 10
    assert values["words"]["mean"] == pytest.approx(13.0)
    # of each paragraph: dog, number, its number; dog, on, grass; photo is no content, its red, and the number of reds
    assert values["assertions_per_caption"] == pytest.approx(summary.assertions_per_caption, abs=1e-3)
    assert summary.assertions_per_caption == pytest.approx(8.0)
    assert values["usage"]["fuser"]["calls"] == 5
    assert values["usage"]["experts"]["light"]["images"] == 5
    assert "5 sentences dropped: no expert supports it" in summary.text()


def test_a_stopped_run_continues_and_a_complete_one_is_not_repeated(tmp_path):
    source, out = write_rows(tmp_path, 10), tmp_path / "fused.jsonl"

    class Failing(Joiner):
        limit = 6

        def generate(self, content, system="", **options):
            if type(self).calls >= self.limit:
                raise RuntimeError("a bug")
            return super().generate(content, system, **options)

    Failing.calls = 0
    chosen = preset(fuser={"backend": Failing(), "cache": str(tmp_path / "c.sqlite"), "concurrency": 1})
    with pytest.raises(JudgeError, match="a bug"):
        run(chosen, source, out)
    assert not out.exists()
    Failing.limit = 99
    run(chosen, source, out)
    assert Failing.calls == 10  # the replies before the stop were not paid for twice
    stopped = out.read_bytes()
    out.unlink()
    run(preset(), source, out)
    assert out.read_bytes() == stopped
    Joiner.calls = 0
    assert run(preset(), source, out).rows == 10
    assert Joiner.calls == 0
    with pytest.raises(InputError, match="was not made by this preset from this data"):
        run(preset(prompt="blendcap.txt", experts={"references": {"expert": "references"}}), source, out)


def test_parts_of_another_preset_and_of_another_process_are_refused(tmp_path):
    source, out = write_rows(tmp_path, 3), tmp_path / "fused.jsonl"
    parts = tmp_path / "fused.jsonl.parts"
    parts.mkdir()
    (parts / "run.json").write_text('{"fingerprint": "x", "budget": null}')
    with pytest.raises(InputError, match="belongs to another preset"):
        run(preset(), source, out)
    lock = FolderLock(parts)
    with pytest.raises(InputError, match="in use by process"):
        run(preset(), source, out)
    lock.release()


class Down(FakeBackend):
    name = "joiner"  # so that its replies are those of the joiner
    working = False

    def generate(self, content, system="", **options):
        if not self.working:
            raise ConnectionError("no route")
        return Joiner().generate(content)


def test_a_fuser_that_is_down_stops_the_run_with_its_reason(tmp_path):
    source, out = write_rows(tmp_path, 8), tmp_path / "fused.jsonl"
    fuser = {"backend": Down(), "cache": ":memory:", "retries": 0, "backoff": 0.0}
    with pytest.raises(JudgeError, match=r"answers nothing: .*no route.*run the same command again"):
        run(preset(fuser=fuser), source, out)
    assert not out.exists()
    fuser["backend"].working = True
    run(preset(fuser=fuser), source, out)
    assert len(out.read_text().splitlines()) == 8


def test_single_outages_are_tried_again_by_the_next_run(tmp_path):
    class Flaky(Joiner):
        broken = True

        def generate(self, content, system="", **options):
            if self.broken and "dog number 2" in content:
                raise ConnectionError("reset")
            return super().generate(content, system, **options)

    source, out = write_rows(tmp_path, 6), tmp_path / "fused.jsonl"
    backend = Flaky()
    chosen = preset(fuser={"backend": backend, "cache": str(tmp_path / "c"), "retries": 0})
    summary = run(chosen, source, out)
    assert (summary.rows, sum(summary.failed.values())) == (5, 1)
    assert "reset" in next(iter(summary.failed))
    backend.broken = False
    assert run(chosen, source, out).rows == 6
    assert not (tmp_path / "fused.jsonl.parts").exists()
    whole = tmp_path / "whole.jsonl"
    run(preset(), source, whole)
    assert whole.read_bytes() == out.read_bytes()


def test_a_budget_stops_the_run_and_a_higher_one_continues(tmp_path):
    class Paid(Joiner):
        def generate(self, content, system="", **options):
            return Completion(super().generate(content, system, **options), 80, 20)

    source, out = write_rows(tmp_path, 12), tmp_path / "fused.jsonl"
    Paid.calls = 0

    def chosen(tokens):
        return preset(fuser={"backend": Paid(), "cache": str(tmp_path / "c"), "limits": {"tokens": tokens}})

    with pytest.raises(BudgetExhaustedError, match="budget"):
        run(chosen(850.0), source, out)
    assert Paid.calls == 8
    with pytest.raises(BudgetExhaustedError):  # what was spent before counts
        run(chosen(850.0), source, out)
    assert Paid.calls == 8
    assert run(chosen(2000.0), source, out).rows == 12
    assert Paid.calls == 12


def test_bad_photos_are_counted_or_stop_the_command(tmp_path, capsys):
    source = write_rows(tmp_path, 4)
    (tmp_path / "photos" / "2.png").write_bytes(b"broken")
    own = tmp_path / "own.yaml"
    own.write_text(
        "experts: {references: {expert: references}}\nfuser: {backend: {type: 'fusion:Joiner'}, cache: ':memory:'}\n"
    )
    out = tmp_path / "fused.jsonl"
    command = ["fuse", str(source), "--preset", str(own), "--out", str(out), "--cache", ":memory:"]
    assert main(command) == 2
    assert "photos/2.png" in capsys.readouterr().err
    assert main([*command, "data.on_bad=skip"]) == 0
    assert "3 paragraphs" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 3


def test_a_photo_that_breaks_after_the_start_costs_only_itself(tmp_path):
    samples = load_samples(write_rows(tmp_path, 4))
    (tmp_path / "photos" / "1.png").write_bytes(b"broken")
    out = tmp_path / "fused.jsonl"
    summary = run_fusion(preset(), samples, out, cache=":memory:", progress=False)
    assert (summary.rows, dict(summary.failed)) == (3, {"not an image": 1})


def test_the_page_shows_marks_statements_and_hostile_text_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr(Joiner, "invented", ". A <img src=x onerror=alert(1)> flies.")
    references = ["a dog.", "<script>alert(1)</script> runs."]
    source, out = write_rows(tmp_path, 6, references=references), tmp_path / "fused.jsonl"
    run(preset(verify={"mode": "drop"}, paper="<b>Paper</b>"), source, out, page_rows=3)
    page = FusionFiles(out).page.read_text()
    assert page.count("<article") == 3
    assert page.count("data:image/") == 3
    assert "3 of 6 rows" in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x onerror" in page
    assert "&lt;b&gt;Paper" in page
    assert 'class="up"' in page
    assert 'class="down"' in page


def test_pairs_teach_a_local_model_to_fuse(tmp_path):
    source, out = write_rows(tmp_path, 3), tmp_path / "fused.jsonl"
    run(preset(), source, out)
    assert write_pairs(out, preset(), tmp_path / "pairs.jsonl") == 3
    row = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    assert [one["role"] for one in row["messages"]] == ["system", "user", "assistant"]
    assert "- a dog on grass. (references)" in row["messages"][1]["content"]
    assert row["messages"][2]["content"] == json.loads(out.read_text().splitlines()[0])["paragraph"]


def command(folder, out):
    return [
        sys.executable, "-m", "rlcap.cli.main", "fuse", str(folder / "photos.jsonl"), "--preset", str(folder / "own.yaml"), "--out",
        str(out), "--cache", str(out.with_suffix(".sqlite")), "--batch-size", "3",
    ]  # fmt: skip


def test_killed_at_random_instants_the_rows_are_the_same_to_the_byte(tmp_path):
    write_rows(tmp_path, 24)
    (tmp_path / "own.yaml").write_text(
        "experts:\n  references: {expert: references}\n  light: {expert: 'fusion:Brightness'}\n"
        f"fuser: {{backend: {{type: 'fusion:Joiner'}}, cache: '{tmp_path / 'killed.cache'}', concurrency: 2}}\n"
        "verify: {mode: drop}\n"
    )
    environment = {
        **os.environ, "PYTHONPATH": f"{ROOT / 'tests' / 'support'}{os.pathsep}{ROOT}", "RLCAP_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    rng, kills = random.Random(3), 0
    slow = {**environment, "FUSION_DELAY": "0.08"}
    for _ in range(4):
        process = subprocess.Popen(
            command(tmp_path, killed), env=slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.time() + 60
        while not killed.with_name("killed.jsonl.parts").exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.05, 0.6))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 3
    subprocess.run(command(tmp_path, killed), env=environment, check=True, capture_output=True)
    own = (tmp_path / "own.yaml").read_text().replace("killed.cache", "whole.cache")
    (tmp_path / "own.yaml").write_text(own)
    subprocess.run(command(tmp_path, whole), env=environment, check=True, capture_output=True)
    assert killed.read_bytes() == whole.read_bytes()
    assert len(killed.read_text().splitlines()) == 24


def test_memory_does_not_grow_with_the_rows_already_written(tmp_path):
    import tracemalloc

    paths = [str(photo(tmp_path / f"{i}.png", i)) for i in range(3)]
    from rlcap.types import Sample

    def samples(count):
        return [Sample(f"s{i}", paths[i % 3], (f"a dog number {i} runs.", "a dog on grass.")) for i in range(count)]

    def peak(count):
        rows = samples(count)
        chosen = preset(fuser={"backend": Joiner(), "cache": str(tmp_path / f"{count}.sqlite")})
        tracemalloc.start()
        run_fusion(chosen, rows, tmp_path / f"{count}.jsonl", cache=str(tmp_path / "e.sqlite"), progress=False)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(32)  # imports and caches of modules
    small, large = peak(200), peak(800)
    assert Brightness.asked
    assert large < small + 1_500_000, (small, large)
