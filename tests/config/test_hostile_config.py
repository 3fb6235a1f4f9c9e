"""Configurations that would run code, exhaust memory, or carry a key into a file."""

import os
import time

import pytest
import yaml

from rlcap.config.imports import build, check_params
from rlcap.config.loading import dump, load_config
from rlcap.config.paths import make_paths_absolute
from rlcap.config.redaction import HIDDEN, redact_values
from rlcap.config.schema import DataConfig, GRPOConfig
from rlcap.config.supervised import SFTConfig
from rlcap.config.yaml_text import parse_yaml
from rlcap.data.source import open_source
from rlcap.errors import ConfigError
from rlcap.judge.backends.base import JudgeBackend
from rlcap.judge.backends.loading import load_backend
from rlcap.reward.base import Reward

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 20,000 values once its aliases are written out"),
        ("a: " + "[" * 5000, "more than 50 levels of brackets"),
        ("a: " + "[" * 60 + "]" * 60, "more than 50 levels of brackets"),
        ("- " * 3000, "nested too deeply|is not YAML"),
        ("a: " + "9" * 5000, "holds a value that can't be read: .*4300 digits"),
        ("a: &a [*a]", "more than 50 levels|is not YAML"),
        ("{}: {}\n? [1, 2]\n: 3", "holds a value that can't be read|is not YAML"),
        ("x" * 1_000_001, "has 1,000,001 characters"),
        ("a: 0000-99-99", "can't be read|^$"),
        ("!!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_yaml_that_would_exhaust_the_machine(text, message):
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=message) as error:
        parse_yaml(text, "config.yaml")
    assert time.perf_counter() - start < 2
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)


def test_a_bomb_in_a_file_and_in_an_override(tmp_path):
    (tmp_path / "bomb.yaml").write_text(BOMB)
    with pytest.raises(ConfigError, match="20,000 values"):
        load_config(GRPOConfig, tmp_path / "bomb.yaml")
    with pytest.raises(ConfigError, match="4300 digits"):
        load_config(GRPOConfig, None, ["train.steps=" + "9" * 5000])
    (tmp_path / "latin.yaml").write_bytes(b"name: blue \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml is not UTF-8"):
        load_config(GRPOConfig, tmp_path / "latin.yaml")
    for override in ("mix=1", "mix=[1]", "mix.length=3", "data=1", "train=[]"):
        with pytest.raises(ConfigError):
            load_config(GRPOConfig, None, [override])


def test_nothing_is_called_that_is_no_backend_or_source(tmp_path):
    victim = tmp_path / "touched"
    with pytest.raises(ConfigError, match="os:system is no judge backend, and was not called"):
        load_backend({"type": "os:system", "command": f"touch {victim}"})
    with pytest.raises(ConfigError, match="subprocess:Popen is no judge backend, and was not called"):
        load_backend({"type": "subprocess:Popen", "args": ["touch", str(victim)]})
    for source in ("os:system", "subprocess:Popen"):
        with pytest.raises(ConfigError, match="is no data source, and was not called"):
            open_source(DataConfig(source=source, options={"args": ["touch", str(victim)]}))
    assert not victim.exists()


def test_a_class_without_a_constructor_takes_no_parameters():
    class Plain(Reward):
        name = "plain"

        def score(self, batch):
            return batch

    class Backend(JudgeBackend):
        name = "plain"

    class Child(Plain):
        def __init__(self, cost: float = 1.0) -> None:
            self.cost = cost

    for kind in (Plain, Backend):
        with pytest.raises(ConfigError, match="unknown parameter of x 'foo'; known: none"):
            check_params(kind, {"foo": 1}, (), "x")
    check_params(Child, {"cost": 2.0}, (), "x")
    assert build(Child, {"cost": 2.0}).cost == 2.0


def test_secrets_are_hidden_and_nothing_else_is():
    values = {
        "sampling": {"api_key": "abc", "max_tokens": 5, "stop_token": "</s>"},
        "base_url": "http://user:pw@host:8000/v1",
        "api_key_env": "MY_KEY",
        "note": "the key is sk-abcdefgh12345678",
        "columns": {"id": "key"},
        "headers": [{"Authorization": "Bearer abcdefgh"}],
    }
    assert redact_values(values) == {
        "sampling": {"api_key": HIDDEN, "max_tokens": 5, "stop_token": "</s>"},
        "base_url": "http://***@host:8000/v1",
        "api_key_env": "MY_KEY",
        "note": "the key is ***",
        "columns": {"id": "key"},
        "headers": [{"Authorization": HIDDEN}],
    }


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("password", 12345678, HIDDEN),
        ("tokens", 10_000, 10_000),
        ("token", None, None),
        ("openaiApiKey", "abc", HIDDEN),
        ("api_keys", {"openai": ["abc"], "azure": 7}, {"openai": [HIDDEN], "azure": HIDDEN}),
        ("auth", "name:pw", HIDDEN),
        ("base_url", "http://name:p@ss@host/v1", "http://***@host/v1"),
        ("base_url", "https://host/v1?api-version=3&api_key=abc#x", "https://host/v1?api-version=3&api_key=***#x"),
        ("base_url", "https://host/mail?to=a@b", "https://host/mail?to=a@b"),
        ("note", "ghp_abcdefgh1234 and eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x-y", "*** and ***"),
    ],
)
def test_secrets_of_every_form_are_hidden(key, value, shown):
    assert redact_values({"params": {key: value}}) == {"params": {key: shown}}


def test_a_written_configuration_holds_no_key_and_works_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "rows.jsonl").write_text("")
    judge = "{backend: {type: openai, model: m, base_url: 'http://u:pw@h/v1'}, sampling: {api_key: abc}}"
    overrides = [
        "model.base=models/base",
        "data.source=rows.jsonl",
        f"mix.critique={{reward: critique, params: {{judge: {judge}}}}}",
    ]
    text = dump(load_config(GRPOConfig, None, overrides))
    assert "pw@" not in text
    assert "abc" not in text
    values = yaml.safe_load(text)
    assert values["model"]["base"] == str(tmp_path / "models" / "base")
    assert values["data"]["source"] == str(tmp_path / "rows.jsonl")
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.chdir("/")
    assert load_config(GRPOConfig, tmp_path / "config.yaml").model.base == str(tmp_path / "models" / "base")


def test_only_existing_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "clip").mkdir()
    found = make_paths_absolute(
        ["mine.py:Mine", "Qwen/Qwen2.5-VL", "lab:nli", "local-dir:./clip", "clip", "x" * 5000, "a\0b/c", "1.5", 3]
    )
    assert found == [
        f"{tmp_path}/mine.py:Mine", "Qwen/Qwen2.5-VL", "lab:nli", f"local-dir:{tmp_path}/clip", "clip", "x" * 5000, "a\0b/c",
        "1.5", 3,
    ]  # fmt: skip
    assert dump(SFTConfig())
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize("overrides", [["[={}"], ["mix=true", "mix.length="], ["[key]=1"], ["function-x=1"]])
def test_odd_keys_are_named(overrides):
    with pytest.raises(ConfigError):
        load_config(GRPOConfig, None, overrides)


def test_characters_beyond_the_basic_plane_survive_json_escapes():
    assert parse_yaml('name: "\\ud83d\\ude00 \\ud800"', "config.yaml") == {"name": "😀 \ufffd"}


def test_an_unknown_key_of_a_reward_term_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown key mix\.length\.weigth; did you mean mix\.length\.weight\?"):
        load_config(GRPOConfig, None, ["mix.length={reward: length, weigth: 2}"])
