"""Images that a processor refuses are found before training, named, and skipped where the configuration says so."""

from types import SimpleNamespace

import captioners
import pytest
from PIL import Image

from rlcap.config.schema import DataConfig, ModelConfig
from rlcap.config.supervised import SFTConfig
from rlcap.errors import DataError
from rlcap.policy.loading import load_policy
from rlcap.policy.unusable_images import find_unusable
from rlcap.train.open_run import OpenRun
from rlcap.types import Sample


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen") / "model"
    captioners.build("qwen2_5_vl", folder)
    return load_policy(ModelConfig(base=str(folder), adapter=None))


def photos(folder):
    for name, size in (("good.png", (64, 64)), ("narrow.png", (900, 3)), ("wide.png", (300, 100))):
        Image.new("RGB", size, "red").save(folder / name)
    return [str(folder / name) for name in ("good.png", "narrow.png", "wide.png")]


def test_the_processor_is_asked_about_unusual_shapes(policy, tmp_path):
    found = find_unusable(policy.captioner, photos(tmp_path))
    assert list(found) == [str(tmp_path / "narrow.png")]
    assert (
        "900 × 3 pixels can't be read by qwen2_5_vl (ValueError: absolute aspect ratio"
        in found[str(tmp_path / "narrow.png")]
    )


def test_such_a_row_is_named_or_skipped(policy, tmp_path, capsys):
    rows = [Sample(str(i), path) for i, path in enumerate(photos(tmp_path))]

    def opened(on_bad):
        config = SFTConfig(data=DataConfig(on_bad=on_bad))
        return OpenRun("sft", config, SimpleNamespace(), None, None, None, {"train": rows})

    with pytest.raises(DataError, match=r"id '1': .*narrow\.png: 900 × 3 pixels can't be read .*data\.on_bad=skip"):
        opened("error").drop_unusable_images(policy)
    run = opened("skip")
    assert run.drop_unusable_images(policy)
    assert [sample.id for sample in run.splits["train"]] == ["0", "2"]
    assert "skipped 1 images that the captioner can't read" in capsys.readouterr().out
