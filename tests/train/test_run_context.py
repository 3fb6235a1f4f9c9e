"""The start of a run: configuration errors are found before data are loaded, and a line describes the bags."""

import time
from pathlib import Path

import pytest

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.data.curriculum import parse
from rlcap.errors import InputError
from rlcap.train import run_context
from rlcap.types import Sample


def rows(*counts):
    return [Sample(str(i), f"{i}.png", distractors={"hard": tuple(map(str, range(n)))}) for i, n in enumerate(counts)]


@pytest.mark.parametrize(
    ("curriculum", "counts", "said"),
    [
        (5, (4, 4), "up to 4 similar images of level 'hard' besides the image itself"),
        ({0.0: 2, 0.5: 7}, (6, 4, 0), "up to 6 similar images of level 'hard' besides the image itself; 2 of 3 images"),
        ({"sizes": [2, 3], "target": 0.5, "window": 2}, (2,), "up to 2 similar images"),
        ({"bag_size": 5, "level": "medium"}, (4,), "WARNING: no training image has similar images of level 'medium'"),
        ({"bag_size": 9, "level": "random"}, (0,), "up to 8 random images"),
    ],
)
def test_a_line_describes_the_bags(curriculum, counts, said):
    assert said in run_context.describe_bags(rows(*counts), parse(curriculum))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.micro_batch=7", "micro_batch"),
        ("curriculum=bagcury", "bagcurri"),
        ("mix.length.reward=rlcap.rewards.lenght:Length", "did you mean 'rlcap.rewards.length'"),
        ("train.use_vllm=true", "train.use_vllm needs a GPU"),
        ("mix.length.params={hihg: 2}", "did you mean 'high'"),
        ("mix.hallucination.params.alpha=high", "parameter alpha of hallucination must be"),
    ],
)
def test_a_config_error_is_raised_before_data_are_read(override, said, tmp_path, monkeypatch):
    monkeypatch.setattr("rlcap.train.open_run.load_splits", lambda data: pytest.fail("data were read first"))
    lab = Path(__file__).parents[2] / "recipes" / "configs" / "lab.yaml"
    config = load_config(GRPOConfig, lab, [override, f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(InputError, match=said):
        run_context.prepare_run(config, "grpo", time.monotonic())
    assert not (tmp_path / "run").exists()
