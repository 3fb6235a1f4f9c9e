"""From an entry of a preset to an expert.

    experts:
      objects: {expert: detector, params: {model: facebook/detr-resnet-50}, most: 10}
      dark: {expert: "my_experts.py:Darkness"}

A name is one of `KINDS`, a dotted path `module:Class`, or `file.py:Class`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from rlcap.config.imports import build, exists, resolve, unknown
from rlcap.config.section import Section
from rlcap.errors import ConfigError
from rlcap.experts.base import Expert
from rlcap.io.cache import content_hash

KINDS = {
    "alt_text": "rlcap.experts.row_texts:RowText",
    "attributes": "rlcap.experts.attributes:Attributes",
    "captioner": "rlcap.experts.captioners:Captioner",
    "classifier": "rlcap.experts.tagger:Classifier",
    "colours": "rlcap.experts.colours:Colours",
    "detector": "rlcap.experts.detector:Detector",
    "ocr": "rlcap.experts.ocr:OCR",
    "references": "rlcap.experts.row_texts:References",
    "regions": "rlcap.experts.captioners:RegionCaptions",
    "row_text": "rlcap.experts.row_texts:RowText",
    "tagger": "rlcap.experts.tagger:Tagger",
}
"""Short name → dotted path of the expert's class."""


class ExpertConfig(Section):
    """One expert of a preset."""

    expert: str
    """A short name (`detector`, `tagger`, `ocr`, …), `module:Class`, or `file.py:Class`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the expert's constructor."""
    most: Annotated[int, Field(ge=1)] | None = None
    """Statements of an image, at most, those with the highest scores; null for all."""
    min_score: float | None = None
    """Statements with a lower score are left out; null keeps all."""


def load_expert(name: str, config: ExpertConfig) -> Expert:
    """Return the expert that an entry of a preset names. No model is loaded yet.

    Raises:
        ConfigError: The expert is unknown or no expert, or a parameter is missing or unknown. The message names the entry.
    """
    kind, colon, _ = config.expert.partition(":")
    try:
        if not colon and not exists(kind.partition(".")[0]):
            if kind not in KINDS:
                raise ConfigError(unknown("expert", kind, KINDS))
            path = KINDS[kind]
        else:
            path = KINDS.get(config.expert, config.expert)
        expert: Expert = build(resolve(path, Expert), config.params, what=config.expert)
    except ConfigError as error:
        raise ConfigError(f"experts.{name}: {error}") from error
    return expert


def identity(config: ExpertConfig, expert: Expert) -> str:
    """Return a digest of everything besides the image that decides an expert's statements: class, parameters, files."""
    path = KINDS.get(config.expert, config.expert)
    file = path.partition(".py:")[0] + ".py" if ".py:" in path else None
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return content_hash(
        expert=path, version=expert.version, code=code, params=config.params, files=[_stamp(name) for name in expert.files()]
    )  # fmt: skip


def _stamp(name: str) -> Sequence[Any]:
    """Return name, sizes and modification times of a local file or of the files in a folder; a hub name as it is."""
    path = Path(name).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    sizes = [
        [file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file() and _counts(file)
    ]
    return [name, sizes]


def _counts(file: Path) -> bool:
    return file.suffix in (".safetensors", ".json", ".txt", ".jinja", ".yaml")
