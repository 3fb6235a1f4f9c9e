"""The defaults of TRL and transformers are recorded, so that one that changes in a new release is seen.

After an upgrade the tests name each difference. Decide what each means for a run, write it into `rlcap/train/trl_config.py`,
`dpo.py` or `sft.py` where it matters, then record the new state: python tests/train/test_trl_defaults.py
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
import trl

from rlcap.algo.kl import k3
from rlcap.config.schema import GRPOConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.train.run_folder import RunFolder
from rlcap.train.trl_config import trl_config

RECORD = Path(__file__).parent / "trl_defaults.json"
CLASSES = {
    "transformers.TrainingArguments": transformers.TrainingArguments,
    "trl.GRPOConfig": trl.GRPOConfig,
    "trl.DPOConfig": trl.DPOConfig,
}
OF_THE_MACHINE = (
    "output_dir",
    "run_name",
    "logging_dir",
    "use_cpu",
    "bf16",
    "dataloader_pin_memory",
    "distributed_state",
)
"""Fields that differ from machine to machine."""


def defaults():
    """Return class → field → default, as text."""
    found = {}
    for name, kind in CLASSES.items():
        inherited = (
            {f.name for f in dataclasses.fields(transformers.TrainingArguments)} if name.startswith("trl") else ()
        )
        own = [f for f in dataclasses.fields(kind) if f.name not in inherited]
        found[name] = {f.name: "a factory" if f.default is dataclasses.MISSING else repr(f.default) for f in own}
    return found


def ours():
    """Return the fields of the GRPO trainer's configuration that differ from TRL's defaults, as text."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl_config(GRPOConfig(), plan(8, 8, 8), RunFolder(Path(folder)))
    plain = trl.GRPOConfig(output_dir="x", report_to="none", use_cpu=True, bf16=False)
    return {
        field.name: repr(getattr(arguments, field.name))
        for field in dataclasses.fields(trl.GRPOConfig)
        if field.name not in OF_THE_MACHINE
        and not field.name.startswith("_")
        and repr(getattr(arguments, field.name)) != repr(getattr(plain, field.name))
    }


def differences(before, after):
    return {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


@pytest.mark.parametrize("name", CLASSES)
def test_no_default_changed(name):
    changed = differences(json.loads(RECORD.read_text())[name], defaults()[name])
    assert not changed, f"field → (recorded, installed): {changed}; see the head of this file"


def test_our_configuration_is_the_recorded_one():
    changed = differences(json.loads(RECORD.read_text())["ours"], ours())
    assert not changed, f"field → (recorded, now): {changed}; see the head of this file"


@pytest.mark.parametrize(("kl", "gradient"), [("loss", -2.0), ("loss_k3", -6.389)])
def test_the_gradient_of_each_kl_term(tmp_path, kl, gradient):
    """At log π − log π_ref = −2 TRL's corrected term pulls with the gradient of the KL, plain k3 with three times that."""
    arguments = trl_config(GRPOConfig(train=TrainConfig(kl=kl)), plan(8, 8, 8), RunFolder(tmp_path))
    log_prob = torch.tensor(-3.0, requires_grad=True)
    term = k3(log_prob, torch.tensor(-1.0))
    if arguments.use_bias_correction_kl:
        term = term * (log_prob - log_prob.detach()).exp()
    term.backward()
    assert float(log_prob.grad) == pytest.approx(gradient, abs=1e-3)


if __name__ == "__main__":
    RECORD.write_text(json.dumps({**defaults(), "ours": ours()}, indent=1) + "\n")
    sys.stdout.write(f"{RECORD}\n")
