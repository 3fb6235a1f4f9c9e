"""Sweeps as lists of runs: grids by hand, random choices that stay, and errors that name the fix."""

from pathlib import Path

import pytest
import yaml

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.config.sweep import Variant, command_lines, list_seeds, list_variants, read_sweep
from rlcap.errors import ConfigError

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "launch" / "sweeps").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write(**values):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"program": "recipes/grpo.py", "method": "grid", **values}))
        return read_sweep(path)

    return write


def test_a_grid_is_the_product_of_its_values(write):
    sweep = write(parameters={"a": {"values": [1, 2]}, "b": {"value": "x"}, "c": {"values": [True, None]}})
    assert [variant.values for variant in list_variants(sweep)] == [
        {"a": 1, "b": "x", "c": True}, {"a": 1, "b": "x", "c": None}, {"a": 2, "b": "x", "c": True}, {"a": 2, "b": "x", "c": None},
    ]  # fmt: skip
    assert [variant.values["a"] for variant in list_variants(sweep, runs=3)] == [1, 1, 2]
    assert list_variants(sweep)[1].overrides == ["a=1", 'b="x"', "c=null"]


def test_the_values_of_train_seed_are_the_seeds_of_each_variant(write):
    sweep = write(
        parameters={"a": {"values": [1, 2]}, "train.seed": {"values": [0, 3]}},
        command=["python", "${program}", "z=1", "${args}"],
    )
    assert list_seeds(sweep) == [0, 3]
    lines = list(command_lines(sweep, list_variants(sweep), list_seeds(sweep), ["train.steps=2"]))
    assert [(variant.values["a"], seed) for variant, seed, _ in lines] == [(1, 0), (1, 3), (2, 0), (2, 3)]
    assert lines[1][2] == ["z=1", "a=1", "train.seed=3", "report_to=[]", "train.steps=2"]
    assert list_seeds(write(parameters={"a": {"value": 1}})) == [0]


def test_names_depend_on_the_values_alone():
    assert Variant({"a": 1, "b": 2}).name == Variant({"b": 2, "a": 1}).name
    assert Variant({"a": 1}).name != Variant({"a": 2}).name


def test_a_random_choice_stays_and_a_further_parameter_changes_no_other(write):
    spaces = {
        "a": {"values": [1, 2, 3]},
        "b": {"min": 0.0, "max": 2.0},
        "c": {"min": 1, "max": 9},
        "d": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "e": {"values": ["x", "y"], "probabilities": [0.0, 1.0]},
    }
    sweep = write(method="random", run_cap=5, parameters=spaces)
    first = list_variants(sweep)
    assert [variant.values for variant in first] == [variant.values for variant in list_variants(sweep)]
    assert len(first) == 5
    assert len(list_variants(sweep, runs=7)) == 7
    assert [variant.values for variant in list_variants(sweep, runs=7)][:5] == [variant.values for variant in first]
    assert [variant.values for variant in list_variants(sweep, seed=1)] != [variant.values for variant in first]
    for variant in first:
        values = variant.values
        assert 0 <= values["b"] <= 2
        assert values["c"] in range(1, 10)
        assert 1e-4 <= values["d"] <= 1e-2
        assert values["e"] == "y"
    more = list_variants(write(method="random", run_cap=5, parameters=spaces | {"f": {"values": [0, 1]}}))
    assert [v.values["b"] for v in more] == [v.values["b"] for v in first]


def test_a_variant_is_drawn_once(write):
    sweep = write(method="random", run_cap=50, parameters={"a": {"values": [1, 2]}})
    assert sorted(variant.values["a"] for variant in list_variants(sweep)) == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "bayes", "parameters": {"a": {"value": 1}}}, "method is 'bayes'; known: grid, random, and bayes, which proposes"),
        ({"method": "gird", "parameters": {"a": {"value": 1}}}, "did you mean grid"),
        ({"method": "random", "parameters": {"a": {"value": 1}}}, "needs the number of variants: run_cap in the file, or --runs 8"),
        ({"parameters": {"a": {"min": 0.0, "max": 1.0}}}, "needs a list of values for a, got {"),
        ({"parameters": {"a": 3}}, "a is 3; write {values:"),
        ({"parameters": [1]}, "parameters is"),
        ({}, "has no parameters"),
        ({"parameters": {"a": {"value": 1}}, "command": ["x"]}, "has no ${program}"),
        ({"method": "random", "run_cap": 1, "parameters": {"a": {"min": 2, "max": 1}}}, "a needs numbers min and max"),
        (
            {"method": "random", "run_cap": 1, "parameters": {"a": {"distribution": "uniforms", "min": 0, "max": 1.0}}},
            "did you mean uniform",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_fix(write, values, message):
    with pytest.raises(ConfigError) as refused:
        list_variants(write(**values))
    assert message in str(refused.value)


def test_a_configuration_file_is_a_parameter_and_names_the_variant():
    sweep = read_sweep(ROOT / "launch" / "sweeps" / "mixes.yaml")
    variants = list_variants(sweep)
    assert len(variants) == 7
    assert variants[0].overrides == ["--config=recipes/configs/mixes/default.yaml"]
    assert variants[0].name.startswith("default-")
    alone = load_config(GRPOConfig, ROOT / variants[-1].values["config"], [])
    assert [name for name, term in alone.mix.items() if term is not None] == ["hallucination"]


def test_a_file_that_is_no_sweep(tmp_path):
    with pytest.raises(ConfigError, match="no sweep file"):
        read_sweep(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        read_sweep(tmp_path / "list.yaml")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_of_the_project_run_without_an_account(path):
    sweep = read_sweep(path)
    variants = list_variants(sweep, "random" if sweep.method == "bayes" else None, 4)
    assert len(variants) == 4
    for variant, seed, arguments in command_lines(sweep, variants, list_seeds(sweep)):
        file = variant.values.get("config", "recipes/configs/lab.yaml")
        overrides = [argument for argument in arguments if not argument.startswith("--config=")]
        assert len(arguments) - len(overrides) == ("config" in variant.values)
        config = load_config(GRPOConfig, ROOT / file, overrides)
        assert config.report_to == []
        assert config.train.seed == seed
