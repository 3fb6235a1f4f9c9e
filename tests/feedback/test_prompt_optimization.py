"""Prompts that are optimised: what scores better stays, and nothing else."""

import json
import math

import pytest
from fake_backends import FakeBackend

from rlcap.cli import main as cli
from rlcap.errors import ConfigError
from rlcap.feedback.prompt_optimization import optimize_prompt
from rlcap.feedback.prompt_tasks import InstructionTask, RubricTask
from rlcap.judge.judge import Judge, RetryPolicy
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.types import Sample, Score


class Writer(FakeBackend):
    """Rewrites to the given texts in turn; None is a reply without tags."""

    name = "writer"

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return "no tags" if text is None else f"<IMPROVED_VARIABLE>{text}</IMPROVED_VARIABLE>"


class Words(Reward):
    name, range = "words", (0.0, 99.0)

    def score(self, batch):
        return RewardOutput([Score(float(len(c.split()))) if c else Score.abstain("nothing") for c in batch.captions])


def judge(writer):
    return Judge(writer, RetryPolicy(timeout=5, retries=0, backoff=0))


def test_only_what_scores_better_is_kept():
    writer = Writer("worse", None, "better", ConnectionError("down"), "better", "best")
    values = {"start": 1.0, "worse": 0.5, "better": 2.0, "best": 3.0}
    seen = []
    found = optimize_prompt(
        "start", "an instruction", describe=lambda text: f"loss of {text}", score=values.__getitem__, judge=judge(writer),
        rounds=6, constraints=("Be brief.",), report=seen.append,
    )  # fmt: skip
    assert (found.best, found.score) == ("best", 3.0)
    assert [tried.kept for tried in found.history] == [True, False, False, True, False, False, True]
    assert "IMPROVED_VARIABLE" in found.history[2].reason
    assert "down" in found.history[4].reason
    assert "nothing new" in found.history[5].reason
    assert seen == list(found.history)
    assert "loss of start" in writer.asked[1]
    assert "loss of better" in writer.asked[3]
    assert "Be brief." in writer.asked[0]


def test_an_instructions_score_is_in_stds_of_the_starts_captions_golden():
    samples = [Sample(str(i), f"{i}.png", ("a dog",)) for i in range(4)]

    def caption(instruction, rows):
        return ["w " * (int(row.id) + len(instruction)) for row in rows]

    task = InstructionTask(caption, RewardMix({"words": RewardTerm(Words(), 2.0)}), samples, samples, {})
    # lengths 1, 2, 3, 4: std √1.25; one word more each
    assert task.score("x") == 0
    assert task.score("xx") == pytest.approx(2 / math.sqrt(1.25))
    told = task.describe("x")
    assert told.index("'w ' (words 1.00)") < told.index("'w w ' (words 2.00)")
    assert "People wrote: 'a dog'" in told


class Grader(Reward):
    """Values by the rubric: `good` orders as people do, `bad` the other way round."""

    name = "grader"

    def __init__(self, rubric):
        self.sign = 1 if rubric == "good" else -1

    def score(self, batch):
        return RewardOutput(
            [Score(self.sign * len(c) / 20) if c != "unread" else Score.abstain("no verdict") for c in batch.captions]
        )


def test_a_rubric_is_scored_by_its_agreement_with_people():
    rows = [("a" * (i + 1), Sample(str(i), "", ("r",)), float(i)) for i in range(10)]
    task = RubricTask(Grader, [*rows, ("unread", Sample("x", "", ("r",)), 3.0)])
    assert task.score("good") == 1.0
    assert task.score("bad") == 0.0
    told = task.describe("bad")
    assert "'a': the judge says -0.05, above where people put it (0)" in told
    assert "could not be read" in told
    with pytest.raises(ConfigError, match="at least 8 captions"):
        RubricTask(Grader, rows[:7])


def test_the_command_writes_the_best_rubric(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import re\n"
        "from rlcap.judge.backends.base import Completion, JudgeBackend\n"
        "class Judge(JudgeBackend):\n"
        "    name, accepts_images, is_deterministic = 'mine', False, True\n"
        "    async def complete(self, request):\n"
        "        words = len(re.search(r'<caption>\\n(.*?)\\n</caption>', request.text, re.S)[1].split())\n"
        "        score = words if 'detail' in request.system else 10 - words\n"
        "        wrong = '<wrong>none</wrong><missing>none</missing>'\n"
        "        return Completion(f'<critique>x</critique>{wrong}<score>{score}</score>')\n"
        "class Writer(JudgeBackend):\n"
        "    name, accepts_images = 'writer', False\n"
        "    async def complete(self, request):\n"
        "        return Completion('<IMPROVED_VARIABLE>Value detail. Reply in the form asked for.</IMPROVED_VARIABLE>')\n"
    )
    rows = [
        {"sample_id": str(i), "caption": "word " * (i % 9 + 1), "score": i % 9, "references": ["a dog"]}
        for i in range(18)
    ]
    (tmp_path / "scored.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "prompt.txt").write_text("Judge.\n---\n{references}\n{caption}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLCAP_CACHE", str(tmp_path / "cache"))
    engines = ("--judge", "mine.py:Judge", "--rewriter", "mine.py:Writer")
    command = ("prompt", "optimize", "rubric", "scored.jsonl", *engines, "--prompt", "prompt.txt", "--rounds", "1")
    assert cli.main([*command, "--out", "rubric.txt", "--json", "tries.json"]) == 0
    assert (tmp_path / "rubric.txt").read_text() == "Value detail. Reply in the form asked for.\n"
    tries = json.loads((tmp_path / "tries.json").read_text())["tries"]
    assert [tried["score"] for tried in tries] == [0.0, 1.0]
    assert "Value detail." in (tmp_path / "rubric.prompt.txt").read_text()
    (tmp_path / "scored.jsonl").write_text(json.dumps({**rows[0], "score": "high"}))
    assert cli.main([*command, "--out", "rubric.txt"]) == 2


def test_the_command_tries_an_instruction_on_images(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from rlcap.judge.backends.base import Completion, JudgeBackend\n"
        "class Writer(JudgeBackend):\n"
        "    name, accepts_images = 'writer', False\n"
        "    async def complete(self, request):\n"
        "        return Completion('<IMPROVED_VARIABLE>describe every thing .</IMPROVED_VARIABLE>')\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "model: {base: 'lab:captioner', adapter: 'lab:adapter'}\ndata: {source: 'rlcap.lab.source:LabSource'}\n"
        "mix: {length: {reward: length}}\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ("prompt", "optimize", "instruction", "--config", "mine.yaml", "--rewriter", "mine.py:Writer")
    sizes = ("--images", "2", "--held-out", "3", "--rounds", "1", "data.train=5", "generation.max_new_tokens=16")
    assert cli.main([*command, *sizes, "--out", "best.txt", "--json", "tries.json"]) == 0
    tries = json.loads((tmp_path / "tries.json").read_text())["tries"]
    assert len(tries) == 2
    assert tries[1]["text"] == "describe every thing ."
    assert (tmp_path / "best.txt").read_text().strip() == max(tries, key=lambda tried: tried["score"])["text"]
    assert cli.main([*command, *sizes, "--held-out", "9", "--out", "best.txt"]) == 2
