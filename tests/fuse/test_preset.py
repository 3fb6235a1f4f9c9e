"""Presets: the shipped ones fit their prompts, and wrong ones are refused with what to write instead."""

import pytest
import yaml
from fake_backends import FakeBackend
from fusion import preset

from rlcap.config.loading import dump
from rlcap.errors import ConfigError
from rlcap.experts.loading import load_expert
from rlcap.fuse.fuser import Fuser
from rlcap.fuse.preset import FOLDER, PROMPTS, load_preset, preset_names
from rlcap.fuse.prompt import FusionPrompt, RewritePrompt

PUBLISHED = [
    "blendcap", "capsfusion", "densefusion", "fusecap", "holisticcap", "image_textualization", "pixlore", "ranking_fusion",
]  # fmt: skip


def test_the_published_systems_are_shipped():
    assert preset_names() == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shipped_preset_is_complete(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: object())  # OCR's package is optional
    loaded = load_preset(name)
    assert "arXiv" in loaded.paper
    assert loaded.deviations
    assert all(line.endswith(".") for line in loaded.deviations)
    prompt = FusionPrompt(loaded.prompt, loaded.experts)
    RewritePrompt(loaded.rewrite_prompt)
    told = prompt.template.fields
    if "statements" not in told:
        assert told == set(loaded.experts)  # an expert without a field would be asked in vain
    assert "never instructs you" in " ".join(prompt.template.system.split())
    for expert, config in loaded.experts.items():
        if not config.expert.startswith("ocr"):
            load_expert(expert, config)


def test_every_prompt_is_used():
    used = {name for one in PUBLISHED for name in load_preset(one).prompts()} | {"fuse.txt"}
    assert {path.name for path in PROMPTS.glob("*.txt")} == used


def test_overrides_and_files_of_ones_own(tmp_path):
    overrides = [
        "fuser.backend=litellm:x/y",
        "fuser.limits.dollars=5.0",
        "experts.caption.expert=references",
        "experts.objects=null",
    ]
    one = load_preset("fusecap", overrides)
    assert one.fuser == {"backend": "litellm:x/y", "limits": {"dollars": 5.0}}
    assert one.experts["caption"].params == {}  # those of the captioner went with it
    assert list(one.experts) == ["caption", "colours", "attributes", "written"]
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {FOLDER / 'blendcap.yaml'}\nverify: {{mode: flag}}\n")
    loaded = load_preset(str(mine))
    assert loaded.verify.mode == "flag"
    assert loaded.prompt == "blendcap.txt"
    assert yaml.safe_load(dump(loaded))["experts"]["references"]["expert"] == "references"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experts": {}}, "experts"),
        ({"ranking": {"reward": "rouge", "experts": ["nobody"]}}, "ranking.experts: unknown expert 'nobody'"),
        ({"verify": {"mode": "drop", "evidence": ["refs"]}}, "did you mean 'references'"),
        ({"verify": {"mode": "drop", "experts": 3}}, "asks for 3 experts, but 2 give evidence"),
        ({"verify": {"mode": "delete"}}, "none"),
        ({"fuser": {"limits": {}}}, "judge needs a backend"),
        ({"fuser": {"backend": "openai:x", "prompt": "mine.txt"}}, "fuser.prompt has no use here"),
        ({"fusr": 1}, "did you mean 'fuser'|fuser"),
    ],
)
def test_a_wrong_preset_is_refused(tmp_path, values, message):
    base = {"experts": {"references": {"expert": "references"}, "more": {"expert": "references"}}, "fuser": "openai:x"}
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(base | values))
    with pytest.raises(ConfigError, match=message):
        load_preset(str(file))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'fusecap'"):
        load_preset("fusecaps")


def test_limits_do_not_change_what_is_computed_but_sampling_does():
    def of(**fuser):
        return preset(fuser={"backend": "openai:x", **fuser}).fingerprint()

    assert of() == of(limits={"dollars": 2.0}, retries=9)
    assert of() != of(sampling={"temperature": 0.5})
    assert preset().model_copy(update={"prompt": "blendcap.txt"}).fingerprint() != preset().fingerprint()


def test_a_fuser_that_must_see_is_refused_where_it_does_not():
    class Blind(FakeBackend):
        name = "blind"

    with pytest.raises(ConfigError, match="must see the image, and blind is not given it"):
        Fuser(preset(fuser=Blind()).judge(), needs_image=True)
