from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from rlcap.config.loading import dump, load_config
from rlcap.config.required import require_complete
from rlcap.config.schema import GRPOConfig, PPOConfig, TermConfig
from rlcap.config.supervised import SFTConfig
from rlcap.errors import ConfigError

LAB = Path(__file__).parents[2] / "recipes" / "configs" / "lab.yaml"
MIX = {"length": TermConfig(reward="length")}


@pytest.fixture
def write(tmp_path):
    def make(text, name="a.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


def checked(*overrides):
    config = load_config(GRPOConfig, LAB, overrides)
    require_complete(config)
    return config


def test_a_file_overrides_only_the_keys_that_it_sets(write):
    config = load_config(GRPOConfig, write("train: {steps: 7}\n"))
    assert config.train.steps == 7
    assert config.train.beta == GRPOConfig().train.beta
    assert config.data == GRPOConfig().data


def test_the_shipped_config_is_fit_to_run():
    config = checked()
    assert config.data.source == "rlcap.lab.source:LabSource"
    assert list(config.mix) == [
        "self_retrieval",
        "listener",
        "hallucination",
        "length",
        "repetition",
        "grammar",
        "style",
    ]
    assert config.curriculum[0.85] == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.step=3", "unknown key train.step; did you mean train.steps"),
        ("trian.steps=3", "unknown key trian; did you mean train"),
        ("model.lora_rnk=3", "did you mean model.lora_rank"),
        ("zzzz=3", "unknown key zzzz; known: curriculum, data"),
        ("train.steps=many", "train.steps: input should be a valid integer, got 'many'"),
        ("train.steps=2.5", "train.steps: input should be a valid integer, got 2.5"),
        ("train.steps=true", "train.steps: input should be a valid integer, got True"),
        ("train.steps=null", "train.steps: input should be a valid integer, got None"),
        ("train.whiten=1", "train.whiten: input should be a valid boolean, got 1"),
        ("train.learning_rate=fast", "train.learning_rate: input should be a valid number, got 'fast'"),
        ("data.train=x", "data.train: input should be a valid integer, got 'x'"),
        ("report_to=3", "report_to: input should be a valid list, got 3"),
        ("data.columns=captions", "data.columns must be a mapping, got 'captions'"),
        ("mix=3", "mix must be a mapping, got 3"),
        ("train=3", "train must be a mapping, got 3"),
        ("train.steps", "override 'train.steps': write key=value"),
        ("train.steps=[1", "is not YAML"),
    ],
)
def test_config_errors_name_the_fix(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(GRPOConfig, LAB, [override])


def test_overrides_are_read_as_yaml_with_or_without_dashes():
    overrides = [
        "--train.steps=5",
        "-train.seed=2",
        "train.learning_rate=2e-3",
        "train.beta=0",
        "data.train=null",
        "report_to=[wandb]",
        "model.adapter=null",
        "mix.listener.weight=0.25",
    ]
    config = load_config(GRPOConfig, LAB, overrides)
    assert (config.train.steps, config.train.seed) == (5, 2)
    assert config.train.learning_rate == 0.002
    assert isinstance(config.train.beta, float)
    assert config.data.train is None
    assert config.model.adapter is None
    assert config.report_to == ["wandb"]
    assert config.mix["listener"].weight == 0.25
    assert config.mix["listener"].params == {"own": 0.6}


def test_one_tracker_may_stand_without_brackets():
    for text in ("wandb", "[wandb]"):
        assert checked(f"report_to={text}").report_to == ["wandb"]
    with pytest.raises(ConfigError, match=r"report_to\.0 is 'wandbb'; did you mean wandb"):
        checked("report_to=wandbb")


def test_columns_are_a_mapping_of_our_names():
    assert checked("data.columns.references=captions").data.columns == {"references": "captions"}
    with pytest.raises(ConfigError, match=r"unknown key data\.columns\.reference; did you mean references"):
        checked("data.columns.reference=captions")
    with pytest.raises(ConfigError, match=r"data.columns.image: input should be a valid string, got 3"):
        checked("data.columns.image=3")


def test_an_equals_sign_may_stand_in_a_value():
    assert load_config(GRPOConfig, None, ["data.instruction='a = b'"]).data.instruction == "a = b"


def test_later_sources_win(write):
    defaults, file = write("train: {steps: 1, seed: 1, beta: 0.5}\n", "d.yaml"), write("train: {steps: 2, seed: 2}\n")
    config = load_config(GRPOConfig, file, ["train.steps=3"], defaults=defaults)
    assert (config.train.steps, config.train.seed, config.train.beta) == (3, 2, 0.5)


def test_a_file_lies_over_the_one_that_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {steps: 5, seed: 1}\nmix: {a: {reward: length, weight: 2}}\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\ntrain: {seed: 2}\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "top.yaml").write_text("extends: ../middle.yaml\nmix: {a: null, b: {reward: style}}\n")
    config = load_config(GRPOConfig, inner / "top.yaml", ["train.beta=0.5"])
    assert (config.train.steps, config.train.seed, config.train.beta) == (5, 2, 0.5)
    assert config.mix["a"] is None
    assert config.mix["b"].reward == "style"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: a.yaml\n", "extends a.yaml, which extends this file in turn"),
        ("extends: none.yaml\n", "there is no file"),
        ("extends: [b.yaml]\n", "must be the name of a YAML file"),
    ],
)
def test_a_file_that_extends_nothing_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(GRPOConfig, tmp_path / "a.yaml")


def test_null_removes_a_component():
    config = checked("mix.listener=null", "mix.length=null")
    assert [name for name, entry in config.mix.items() if entry is not None] == [
        "self_retrieval",
        "hallucination",
        "repetition",
        "grammar",
        "style",
    ]


def test_the_curriculum_is_replaced_and_never_merged():
    assert load_config(GRPOConfig, LAB, ["curriculum={0.0: 4}"]).curriculum == {0.0: 4}
    assert load_config(GRPOConfig, LAB, ["curriculum=5"]).curriculum == 5
    assert load_config(GRPOConfig, LAB, ["curriculum={bag_size: 5, level: random}"]).curriculum == {
        "bag_size": 5,
        "level": "random",
    }


@pytest.mark.parametrize("kind", [GRPOConfig, SFTConfig])
def test_a_dumped_config_loads_to_the_same_values(kind, write):
    file = LAB if kind is GRPOConfig else None
    config = load_config(kind, file, ["train.learning_rate=1e-5", "name=ä b"])
    assert load_config(kind, write(dump(config))) == config


def test_configs_do_not_share_their_parts():
    one, two = load_config(GRPOConfig), load_config(GRPOConfig)
    one.mix["a"] = None
    assert two.mix == {}
    with pytest.raises(ValidationError, match="frozen"):
        one.train.steps = 99


def test_files_that_are_no_configs(write, tmp_path):
    with pytest.raises(ConfigError, match=r"no config file .*nothing.yaml"):
        load_config(GRPOConfig, tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="must hold a mapping of sections, got list"):
        load_config(GRPOConfig, write("- 1\n"))
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(GRPOConfig, write("a: [1\n"))
    assert load_config(GRPOConfig, write("")) == GRPOConfig()
    assert load_config(GRPOConfig, write("train:\n")) == GRPOConfig()  # a section with everything commented out


def test_the_aggregates_are_those_of_the_formulas():
    from rlcap.algo import advantages
    from rlcap.config.schema import TrainConfig

    assert set(get_args(TrainConfig.model_fields["aggregate"].annotation)) == set(advantages.AGGREGATE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=0", "train.steps: input should be greater than"),
        ("train.learning_rate=-1", "train.learning_rate: input should be greater than"),
        ("train.learning_rate=.nan", "train.learning_rate: input should be a finite number, got nan"),
        ("train.beta=-1", "train.beta: input should be greater than or equal to 0, got -1"),
        ("train.aggregate=normalise_then_sum", "train.aggregate is .*; did you mean normalize_then_sum"),
        ("data.train=0", "data.train: input should be greater than"),
        ("data.validation=-3", "data.validation: input should be greater than or equal to 0, got -3"),
        ("evaluation.batch_size=0", "evaluation.batch_size: input should be greater than"),
        ("train.micro_batch=0", "train.micro_batch: input should be greater than"),
        ("generation.temperature=-1", "generation.temperature: input should be greater than or equal"),
        ("generation.max_new_tokens=0", "generation.max_new_tokens: input should be greater than"),
        ("generation.top_p=1.5", "generation.top_p: input should be less than or equal to 1, got 1.5"),
        ("evaluation.every=0", "evaluation.every: input should be greater than"),
        ("train.captions_per_image=1", "train.captions_per_image: input should be greater than or equal to 2, got 1"),
        ("data.on_bad=ignore", "data.on_bad is 'ignore'; known: error, skip"),
        (
            "evaluation.retriever=local-dir:lab:retriever",
            "evaluation.retriever is also a parameter of mix.self_retrieval",
        ),
        ("train.use_vllm=true train.kl=sequence", "train.use_vllm leaves the round to TRL"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints: input should be greater than"),
        ("mix.length.params=3", "mix.length.params must be a mapping, got 3"),
    ],
)
def test_check_names_the_key_the_value_and_the_fix(override, message):
    with pytest.raises(ConfigError, match=message):
        checked(*override.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=0", "train.steps: input should be greater than"),
        ("train.learning_rate=.nan", "train.learning_rate: input should be a finite number, got nan"),
        ("train.learning_rate=.inf", "train.learning_rate: input should be a finite number, got inf"),
        ("train.weight_decay=-1", "train.weight_decay: input should be greater than or equal to 0, got -1"),
        ("train.batch_size=0", "train.batch_size: input should be greater than"),
        ("train.micro_batch=-4", "train.micro_batch: input should be greater than"),
        ("train.micro_batch=5", "train.batch_size 32 is not a multiple of train.micro_batch 5"),
        ("train.target=paragraphs", "train.target is 'paragraphs'; did you mean paragraph"),
        ("train.seed=-1", "train.seed: input should be greater than or equal to 0, got -1"),
        ("data.train=0", "data.train: input should be greater than"),
        ("data.validation=-3", "data.validation: input should be greater than or equal to 0, got -3"),
        ("data.max_pixels=0", "data.max_pixels: input should be greater than"),
        ("data.on_bad=ignore", "data.on_bad is 'ignore'; known: error, skip"),
        ("model.lora_rank=0", "model.lora_rank: input should be greater than"),
        ("model.dtype=bfloat", "model.dtype is 'bfloat'; did you mean bfloat16"),
        ("model.trainable=lora-langauge", "model.trainable is 'lora-langauge'; did you mean lora-language"),
        ("report_to=tensorbord", "report_to.0 is 'tensorbord'; did you mean tensorboard"),
    ],
)
def test_maximum_likelihood_has_bounds_too(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(SFTConfig, None, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.gamma=1.1"], "train.gamma: input should be less than or equal to 1, got 1.1"),
        (["train.minibatches=0"], "train.minibatches: input should be greater than"),
        (["train.value_learning_rate=0"], "train.value_learning_rate: input should be greater than"),
        (["train.value_coefficient=-1"], "train.value_coefficient: input should be greater than or equal to 0"),
        (["train.kl=sequence"], "train.kl is 'sequence'; known: token, loss"),
        (
            ["train.kl=loss", "train.kl_target=6"],
            "needs train.kl=token and train.beta above 0 to start from, got 'loss'",
        ),
        (["train.beta=0", "train.kl_target=6"], "got 'token' and 0.0"),
        (["train.aggregate=sum_then_center"], "PPO compares with its value model: leave it out"),
        (["train.schedule=linear"], "train.schedule is 'linear'; known: cosine, constant"),
        (["train.use_vllm=true"], "train.use_vllm"),
    ],
)
def test_ppo_settings_have_bounds(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(PPOConfig, LAB.with_name("lab_ppo.yaml"), overrides, defaults=LAB)
    require_complete(load_config(PPOConfig, LAB.with_name("lab_ppo.yaml"), ["train.kl_target=6"], defaults=LAB))


def test_ppo_keys_in_a_grpo_config_are_rejected():
    with pytest.raises(ConfigError, match=r"unknown key train\.lam"):
        load_config(GRPOConfig, None, ["train.lam=0.9"])
    with pytest.raises(ConfigError, match=r"train\.kl is 'token'; known: loss, loss_k3, sequence"):
        checked("train.kl=token")


def test_a_mix_without_rewards_is_rejected():
    removed = [
        f"mix.{name}=null"
        for name in ("self_retrieval", "listener", "hallucination", "length", "repetition", "grammar", "style")
    ]
    with pytest.raises(ConfigError, match="mix is empty"):
        checked(*removed)
    with pytest.raises(ConfigError, match="mix is empty"):
        require_complete(GRPOConfig())
    with pytest.raises(ConfigError, match=r"model\.base is empty"):
        require_complete(GRPOConfig(mix=MIX))


def test_values_without_effect_or_meaning_are_rejected():
    with pytest.raises(ConfigError, match=r"train.loss_type is 'dapa'; did you mean dapo"):
        checked("train.loss_type=dapa")
    with pytest.raises(ConfigError, match=r"mix.length.normalize has no effect with train.aggregate=sum_then_center"):
        checked("mix.listener.normalize=null", "mix.length.normalize=batch", "train.aggregate=sum_then_center")
    with pytest.raises(ConfigError, match=r"mix.length.normalize has no effect with PPO"):
        load_config(PPOConfig, LAB, ["mix.listener.normalize=null", "mix.length.normalize=batch"])
    checked("mix.length.normalize=batch")


def test_an_override_with_colons_is_a_text_and_braces_make_a_mapping():
    config = load_config(
        GRPOConfig, None, ["mix.a.reward=my.module:Name", "mix.a.params.cache=:memory:", "curriculum={0.0: 2, 0.5: 3}"]
    )
    assert config.mix["a"].params["cache"] == ":memory:"
    assert config.curriculum == {0.0: 2, 0.5: 3}


def test_removing_an_unknown_reward_is_rejected(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("mix: {length: {reward: rlcap.rewards.length:Length}}\n")
    assert load_config(GRPOConfig, file, ["mix.length=null"]).mix == {"length": None}
    with pytest.raises(ConfigError, match=r"no reward 'lenght' to leave out; did you mean mix\.length\?"):
        load_config(GRPOConfig, file, ["mix.lenght=null"])


def test_another_backend_takes_none_of_the_old_ones_parameters():
    def backend(override):
        params = (
            load_config(GRPOConfig, LAB.with_name("lab_oracle.yaml"), [f"mix.critique.params.judge.backend{override}"])
            .mix["critique"]
            .params
        )
        assert params["penalty"] == 0.05
        return params["judge"]["backend"]

    mine = {"type": "openai", "model": "gpt-4o-mini", "temperature": 0.2}
    assert backend("={type: openai, model: gpt-4o-mini, temperature: 0.2}") == mine
    assert backend(".misreads=0.5") == {"type": "rlcap.lab.oracles.grader:OracleGrader", "misreads": 0.5}
    assert backend("=openai:gpt-4o-mini") == "openai:gpt-4o-mini"


def test_an_adapter_does_not_go_with_full_training():
    with pytest.raises(
        ConfigError, match=r"model: trainable=full trains every weight, and adapter lab:adapter is a LoRA"
    ):
        checked("model.trainable=full")
    require_complete(load_config(GRPOConfig, LAB, ["model.base=m/vlm", "model.adapter=null", "model.trainable=full"]))


def test_one_error_lists_all_problems():
    overrides = ["train.steps=many", "train.beta=-1", "data.sorce=x.jsonl", "mix.length.normalize=grup"]
    with pytest.raises(ConfigError) as caught:
        load_config(GRPOConfig, LAB, overrides)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for start in (
        "train.steps: ",
        "train.beta: ",
        "unknown key data.sorce; did you mean data.source",
        "mix.length.normalize is",
    ):
        assert any(line.startswith(start) for line in lines), start


def test_another_data_source_takes_none_of_the_old_ones_options():
    assert load_config(GRPOConfig, LAB).data.options == {"prior_breaking": 35}
    assert load_config(GRPOConfig, LAB, ["data.source=mine.jsonl"]).data.options == {}
    assert load_config(GRPOConfig, LAB, ["data.options.prior_breaking=0"]).data.options == {"prior_breaking": 0}
