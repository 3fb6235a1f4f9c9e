"""`rlcap doctor`: checks whether this machine is ready, and says how to fix each problem.

    health = examine()
    print(health.text())
    health.well          # False if rlcap can't run on this machine

The checks change nothing. They import torch to see whether it works, and read only the versions of all other packages.
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
from rlcap.config.trackers import NEEDS, find_missing
from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address

State = Literal["good", "note", "broken"]
_MARK = {"good": "+", "note": "-", "broken": "x"}
MIN_FREE_GB = 2.0
"""Free disk space in GiB below which the checkpoints of a run may not fit."""
OPTIONAL = {
    "deepspeed": ("ZeRO: launch/accelerate/zero2.yaml and zero3.yaml", 'pip install -e ".[deepspeed]"'),
    "vllm": ("train.use_vllm on GPUs", 'pip install -e ".[vllm]"'),
    "optuna": ("rlcap sweep --method bayes", 'pip install "rlcap[sweep]"'),
    "bitsandbytes": ("base models that are saved in 8 or 4 bits, on GPUs", "pip install bitsandbytes"),
    "rapidocr_onnxruntime": ("the expert ocr of rlcap fuse", 'pip install -e ".[ocr]"'),
    "pytest": ("the tests", 'pip install -e ".[dev]"'),
}
"""Package → (its purpose, the command that installs it)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    topic: str
    """`packages`, `devices`, `lab`, `disk` or `tools`."""
    state: State
    """`broken`: rlcap can't run. `note`: one feature is not available. `good`: all is well."""
    what: str
    """What the check found."""
    fix: str = ""
    """How to fix the problem; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Health:
    """The results of all checks."""

    findings: tuple[Finding, ...]
    """The results, ordered by topic."""

    @property
    def well(self) -> bool:
        """Whether rlcap can run: no finding is `broken`."""
        return all(finding.state != "broken" for finding in self.findings)

    def text(self) -> str:
        """Return the findings as text for people, by topic, with the fixes and a final verdict."""
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
        """Return the findings as JSON for programs."""
        return json.dumps({"well": self.well, "findings": [asdict(finding) for finding in self.findings]}, indent=2)


def examine() -> Health:
    """Run all checks."""
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
    """Check the installed versions of the required packages.

    Args:
        version: Returns the installed version of a package, or None.
    """
    findings: list[Finding] = []
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires("rlcap") or ()]
    except importlib.metadata.PackageNotFoundError:
        return [*findings, Finding("packages", "broken", "rlcap is not installed", "pip install -e . in its checkout")]
    satisfied = []
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
            satisfied.append(f"{requirement.name} {found}")
    return [Finding("packages", "good", f"Python {platform.python_version()}, {', '.join(satisfied)}"), *findings]


def optional_packages(version: Callable[[str], str | None] = installed) -> list[Finding]:
    """Check which optional packages are installed, and name the purpose of each.

    Args:
        version: Returns the installed version of a package, or None.
    """
    findings = []
    for name, (purpose, command) in OPTIONAL.items():
        found = version(name)
        if found is None:
            findings.append(
                Finding("packages", "note", f"{name} is not installed; it is needed for {purpose}", command)
            )
        else:
            findings.append(Finding("packages", "good", f"{name} {found}, for {purpose}"))
    return findings


def builds_match(torch: str, torchvision: str) -> bool:
    """Return whether torch and torchvision come from the same kind of build.

    If only one of them is a `+cpu` build, both can be imported, but then fail with `operator torchvision::nms does not exist`.

    >>> builds_match("2.15.0+cpu", "0.29.2")
    False
    """
    return torch.partition("+")[2] == torchvision.partition("+")[2]


def load_torchvision_operators() -> None:
    """Load the compiled operators of torchvision, without the rest of the package.

    The import of the whole package would take longer than all other checks together.

    Raises:
        OSError: The operators were compiled for another torch.
        ImportError: The operators are not in a file of their own, and torchvision can't be imported.
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
    """Check torch and torchvision, the CPU cores and the GPUs."""
    torch_version, torchvision_version = installed("torch"), installed("torchvision")
    if torch_version is None or torchvision_version is None:
        return []  # `required_packages` reports missing packages
    try:
        import torch

        load_torchvision_operators()
    except (ImportError, RuntimeError, OSError) as error:
        pair = f"torch {torch_version} and torchvision {torchvision_version}"
        what = f"{pair} do not work together: {str(error).splitlines()[0]}"
        return [
            Finding(
                "packages", "broken", what, "pip install --force-reinstall torch torchvision, both from the same index"
            )
        ]
    findings = []
    if not builds_match(torch_version, torchvision_version):
        what = f"torch {torch_version} and torchvision {torchvision_version} are of different builds"
        findings.append(
            Finding(
                "packages", "note", what, "install both from the same index; otherwise torchvision's operators may fail"
            )
        )
    try:
        torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, AttributeError) as error:  # a missing kernel, or no operator of this name
        what = f"torchvision's operators do not load: {str(error).splitlines()[0]}"
        findings.append(Finding("packages", "broken", what, "pip install --force-reinstall torch torchvision"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings.append(Finding("devices", "good", f"{cores} CPU cores, of which torch uses {torch.get_num_threads()}"))
    if not torch.cuda.is_available():
        fix = "the recipes of the lab need none; models of billions of parameters do"
        return [*findings, Finding("devices", "note", "no CUDA GPU", fix)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "without bfloat16, so training uses float32"
        findings.append(
            Finding(
                "devices",
                "good",
                f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}",
            )
        )
    return findings


def tools() -> list[Finding]:
    """Check for programs outside of Python."""
    findings = []
    if browser := shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
        findings.append(Finding("tools", "good", f"{Path(browser).name}, for the test that opens the report"))
    else:
        what = "chromium is not installed, so the test that opens the report in a browser is skipped"
        findings.append(Finding("tools", "note", what, "apt-get install chromium chromium-driver"))
    if installed("deepspeed") and not shutil.which("g++"):
        what = "g++ is not installed; DeepSpeed compiles its CPU communication with it (DS_ACCELERATOR=cpu)"
        findings.append(Finding("tools", "note", what, "apt-get install g++"))
    trackers = [name for name in NEEDS if not find_missing([name])]
    if trackers:
        what = f"experiment trackers: {', '.join(trackers)}; enable one with report_to=[{trackers[-1]}]"
        offline = "; without an account, set WANDB_MODE=offline" if "wandb" in trackers else ""
        findings.append(Finding("tools", "good", what + offline))
    return findings


def embedded_models(addresses: Sequence[str] | None = None) -> list[Finding]:
    """Check the models that are part of the package.

    Args:
        addresses: Addresses such as `lab:nli`; None for those in the configuration of the lab.
    """
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
            size_found = pointers[0].stat().st_size
            what = f"{address} is a Git LFS pointer, not a model: {pointers[0].name} has only {size_found} bytes"
            findings.append(Finding("lab", "broken", what, "git lfs pull"))
    return findings or [Finding("lab", "good", f"{', '.join(addresses)}: {size / 1e6:.1f} MB")]


def disk() -> list[Finding]:
    """Check the cache folder, and the free disk space for runs."""
    from rlcap.io.cache import cache_folder

    cache, here = cache_folder(), Path.cwd()
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    what = f"cache {cache}: {size / 1e6:.0f} MB (RLCAP_CACHE sets another folder; you can delete the cache at any time)"
    probe = next(path for path in (cache, *cache.parents) if path.exists())
    writable = os.access(probe, os.W_OK)
    fix = "" if writable else f"{probe} is not writable; set RLCAP_CACHE to a folder that is"
    findings = [Finding("disk", "good" if writable else "broken", what, fix)]
    free = shutil.disk_usage(here).free / 2**30
    enough = free >= MIN_FREE_GB
    fix = (
        ""
        if enough
        else f"checkpoints may need more than {MIN_FREE_GB:g} GiB; free some space, or set --output_dir to another disk"
    )
    return [*findings, Finding("disk", "good" if enough else "note", f"{free:.1f} GiB free here, for runs/", fix)]
