"""`rlcap doctor`: whether this machine is ready, for what, and what to do about each thing that is missing.

    health = examine()
    print(health.text())
    health.well          # False where something is broken without which rlcap does not run

Nothing is changed. torch is imported, to see whether it works; of all other packages only the version is read.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from rlcap.cli.arguments import lab_config
from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address

State = Literal["good", "note", "broken"]
_MARK = {"good": "+", "note": "-", "broken": "x"}
MIN_FREE_GB = 2.0
"""Below this a run's checkpoints may not fit."""
OPTIONAL = {
    "deepspeed": ("ZeRO: launch/accelerate/zero2.yaml and zero3.yaml", 'pip install -e ".[deepspeed]"'),
    "vllm": ("train.use_vllm on GPUs", 'pip install -e ".[vllm]"'),
    "bitsandbytes": ("base models that are saved in 8 or 4 bits, on GPUs", "pip install bitsandbytes"),
    "pytest": ("the tests", 'pip install -e ".[dev]"'),
}
"""Package → (what it is for, how to get it)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    """packages, devices, lab, disk or tools."""
    state: State
    """`broken`: rlcap does not run; `note`: something particular does not; `good`."""
    what: str
    fix: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that was found."""

    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is broken."""
        return all(finding.state != "broken" for finding in self.findings)

    def text(self) -> str:
        """Return the findings for people: by topic, what to do below each, and the verdict last."""
        lines: list[str] = []
        for topic in dict.fromkeys(finding.topic for finding in self.findings):
            lines.append(topic)
            for finding in self.findings:
                if finding.topic == topic:
                    lines.append(f"  {_MARK[finding.state]} {finding.what}")
                    lines += [f"      → {finding.fix}"] if finding.fix else []
        broken = sum(finding.state == "broken" for finding in self.findings)
        lines.append("ready" if not broken else f"not ready: {broken} problem{'s' * (broken > 1)} marked x")
        return "\n".join(lines)

    def json(self) -> str:
        """Return the findings for programs."""
        return json.dumps({"well": self.well, "findings": [asdict(finding) for finding in self.findings]}, indent=2)


def examine() -> Health:
    """Look at everything."""
    findings = [*required_packages(), *optional_packages(), *torch_and_devices(), *tools(), *embedded_models(), *disk()]
    order = {"packages": 0, "devices": 1, "tools": 2, "lab": 3, "disk": 4}
    return Health(tuple(sorted(findings, key=lambda finding: order[finding.topic])))


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def required_packages(version: Callable[[str], str | None] = installed) -> list[Finding]:
    """Compare what the package requires with what is installed."""
    findings: list[Finding] = []
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("rlcap") or ()]
    except importlib.metadata.PackageNotFoundError:
        return [*findings, Finding("packages", "broken", "rlcap is not installed", "pip install -e . in its checkout")]
    right = []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = version(requirement.name)
        if found is None:
            findings.append(
                Finding("packages", "broken", f"{requirement.name} is missing", f'pip install "{requirement}"')
            )
        elif not requirement.specifier.contains(found, prereleases=True):
            what = f"{requirement.name} {found}, but rlcap needs {requirement.specifier}"
            findings.append(Finding("packages", "broken", what, f'pip install "{requirement}"'))
        else:
            right.append(f"{requirement.name} {found}")
    return [Finding("packages", "good", f"Python {platform.python_version()}, {', '.join(right)}"), *findings]


def optional_packages(version: Callable[[str], str | None] = installed) -> list[Finding]:
    """Look for the optional packages, and say what each is for."""
    findings = []
    for name, (purpose, command) in OPTIONAL.items():
        found = version(name)
        if found is None:
            findings.append(Finding("packages", "note", f"no {name}: needed for {purpose}", command))
        else:
            findings.append(Finding("packages", "good", f"{name} {found}, for {purpose}"))
    return findings


def builds_match(torch: str, torchvision: str) -> bool:
    """Return whether two versions come from the same kind of build.

    A `+cpu` torch beside a torchvision of another kind (or the reverse) loads, and then fails with `operator torchvision::nms does not
    exist`.

    >>> builds_match("2.15.0+cpu", "0.29.2")
    False
    """
    return torch.partition("+")[2] == torchvision.partition("+")[2]


def load_torchvision_operators() -> None:
    """Load the compiled operators of torchvision, without the rest of the package, whose import takes longer than all else here.

    Raises:
        OSError: they were compiled for another torch.
        ImportError: torchvision can't be imported, where its operators are not found in a file of their own.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec is not None else None
    libraries = [path for folder in folders or () for path in sorted(Path(folder).glob("_C*.so"))]
    if not libraries:
        importlib.import_module("torchvision.ops")
    for path in libraries:
        torch.ops.load_library(str(path))


def torch_and_devices() -> list[Finding]:
    """Look at torch with its torchvision, at the cores and at the GPUs."""
    torch_version, torchvision_version = installed("torch"), installed("torchvision")
    if torch_version is None or torchvision_version is None:
        return []  # told among the required packages
    try:
        import torch

        load_torchvision_operators()
    except (ImportError, RuntimeError, OSError) as error:
        pair = f"torch {torch_version} and torchvision {torchvision_version}"
        what = f"{pair} do not work together: {str(error).splitlines()[0]}"
        return [
            Finding("packages", "broken", what, "pip install --force-reinstall torch torchvision, both from one index")
        ]
    findings = []
    if not builds_match(torch_version, torchvision_version):
        what = f"torch {torch_version} and torchvision {torchvision_version} are of different builds"
        findings.append(
            Finding("packages", "note", what, "install both from one index, or torchvision's operators may fail")
        )
    try:
        torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, AttributeError) as error:  # a missing kernel, or no operator of this name
        what = f"torchvision's operators do not load: {str(error).splitlines()[0]}"
        findings.append(Finding("packages", "broken", what, "pip install --force-reinstall torch torchvision"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings.append(Finding("devices", "good", f"{cores} CPU cores, of which torch uses {torch.get_num_threads()}"))
    if not torch.cuda.is_available():
        fix = "the lab's recipes are made for this; for models of billions of parameters use a machine with a GPU"
        return [*findings, Finding("devices", "note", "no CUDA GPU", fix)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16: float32 is used"
        findings.append(
            Finding(
                "devices",
                "good",
                f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}",
            )
        )
    return findings


def tools() -> list[Finding]:
    """Look for programs outside of Python."""
    findings = []
    if browser := shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
        findings.append(Finding("tools", "good", f"{Path(browser).name}, for the test that opens the report"))
    else:
        what = "no chromium: the test that opens the report in a browser is skipped"
        findings.append(Finding("tools", "note", what, "apt-get install chromium chromium-driver"))
    if installed("deepspeed") and not shutil.which("g++"):
        what = "no g++: DeepSpeed compiles its CPU communication with it (DS_ACCELERATOR=cpu)"
        findings.append(Finding("tools", "note", what, "apt-get install g++"))
    if installed("wandb"):
        findings.append(Finding("tools", "good", "W&B: report_to=[wandb]; without an account, WANDB_MODE=offline"))
    return findings


def embedded_models(addresses: Sequence[str] | None = None) -> list[Finding]:
    """Look at the models that the package brings: those that the lab's configuration names by an address."""
    if addresses is None:
        addresses = sorted(set(re.findall(r"lab:[\w-]+", lab_config().read_text(encoding="utf-8"))))
    findings, size = [], 0
    for address in addresses:
        try:
            folder = Path(resolve_address(address))
        except ConfigError as error:
            findings.append(Finding("lab", "broken", str(error), "git checkout rlcap/lab/assets, or rlcap lab build"))
            continue
        weights = sorted(folder.glob("*.safetensors"))
        size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if not weights:
            fix = f"git checkout rlcap/lab/assets, or rlcap lab build --only {address.partition(':')[2]}"
            findings.append(Finding("lab", "broken", f"{address} has no weights in {folder}", fix))
        elif pointers := [path for path in weights if path.stat().st_size < 1024]:
            what = f"{address} is a pointer, not a model: {pointers[0].name} has {pointers[0].stat().st_size} bytes"
            findings.append(Finding("lab", "broken", what, "git lfs pull"))
    return findings or [Finding("lab", "good", f"{', '.join(addresses)}: {size / 1e6:.1f} MB")]


def disk() -> list[Finding]:
    """Look at the cache, and at the free space for runs."""
    from rlcap.io.cache import cache_folder

    cache, here = cache_folder(), Path.cwd()
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    what = f"cache {cache}: {size / 1e6:.0f} MB (RLCAP_CACHE moves it; it may be deleted)"
    probe = next(path for path in (cache, *cache.parents) if path.exists())
    writable = os.access(probe, os.W_OK)
    fix = "" if writable else f"can't be written; set RLCAP_CACHE to a folder of yours, {probe} is not"
    findings = [Finding("disk", "good" if writable else "broken", what, fix)]
    free = shutil.disk_usage(here).free / 2**30
    enough = free >= MIN_FREE_GB
    fix = (
        ""
        if enough
        else f"less than {MIN_FREE_GB:g} GiB: checkpoints may not fit; free some, or use --output_dir elsewhere"
    )
    return [*findings, Finding("disk", "good" if enough else "note", f"{free:.1f} GiB free here, for runs/", fix)]
