"""A preset: the experts, the ranking, the prompt, the fuser and the verification of `rlcap fuse`, as a YAML file.

    paper: FuseCap (Rotstein et al. 2024, arXiv 2305.17718)
    experts:
      caption: {expert: captioner, params: {model: Salesforce/blip2-opt-2.7b}}
      objects: {expert: detector, params: {model: facebook/detr-resnet-50}}
    prompt: fusecap.txt
    fuser: openai:gpt-4o-mini
    verify: {mode: drop}

The shipped presets are in `rlcap/fuse/presets`. A file of your own may begin with `extends: FILE`, and every key can be overridden on the
command line (`experts.caption.params.model=runs/sft`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rlcap.config.imports import unknown
from rlcap.config.loading import load_config
from rlcap.config.section import Section
from rlcap.errors import ConfigError
from rlcap.experts.loading import ExpertConfig
from rlcap.io.cache import content_hash
from rlcap.judge.backends.base import JudgeBackend
from rlcap.judge.config import JudgeConfig

FOLDER = Path(__file__).parent / "presets"
PROMPTS = Path(__file__).parent / "prompts"
Share = Annotated[float, Field(ge=0, le=1)]


class RankingConfig(Section):
    """Which captions of an image are fused: those with the highest scores by a reward."""

    reward: str
    """A reward by its short name or dotted path, such as `clip_score`, `vqa_score` or `pick_score`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the reward."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Captions that are kept."""
    experts: list[str] = Field(default_factory=list)
    """The experts whose statements are ranked; empty ranks all statements of the kinds `caption` and `region`."""


class SupportConfig(Section):
    """How the statements that support a sentence are found."""

    by: str = "words"
    """`words` (shared content words, no model), `nli` (an NLI model), `module:Class`, or `file.py:Class`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the class."""


class VerifyConfig(Section):
    """What happens to a sentence that no expert supports."""

    mode: Literal["none", "flag", "drop", "rewrite"] = "none"
    """`none` only records the provenance; `flag` marks the sentence in the row; `drop` leaves it out; `rewrite` gives the paragraph back to
    the fuser once, and then drops what is still not supported."""
    evidence: list[str] = Field(default_factory=list)
    """The experts whose statements count as evidence; empty for all. A draft is no evidence for itself: leave its expert out."""
    experts: Annotated[int, Field(ge=1)] = 1
    """Different experts that must support a sentence (each claim of it, where the support tells claims apart)."""


class Preset(Section):
    """How paragraphs are made from images."""

    paper: str = ""
    """The published system that the preset follows."""
    deviations: list[str] = Field(default_factory=list)
    """What differs from the published system, one sentence each."""
    experts: Annotated[dict[str, ExpertConfig], Field(min_length=1)]
    """Name → expert, in the order in which they run. null leaves an expert of a shipped preset out."""
    ranking: RankingConfig | None = None
    """Which captions are fused; null for all."""
    prompt: str = "fuse.txt"
    """The prompt file: one of `rlcap/fuse/prompts`, or a path. Its {fields} are names of experts, or `statements` for all experts that have no
    field of their own."""
    rewrite_prompt: str = "rewrite.txt"
    """The prompt file of the mode `rewrite`, with {statements}, {paragraph} and {unsupported}."""
    fuser: Any
    """The judge backend that writes, in any form that a reward's `judge` may have: `openai:gpt-4o-mini`, or {backend: …, limits: …}."""
    needs_image: bool = False
    """Whether the fuser must see the image."""
    support: SupportConfig = Field(default_factory=SupportConfig)
    """How provenance is found."""
    verify: VerifyConfig = Field(default_factory=VerifyConfig)
    """What happens to a sentence without support."""

    @field_validator("experts", mode="before")
    @classmethod
    def _leave_out(cls, experts: Any) -> Any:
        """Drop the entries that are null, as an override `experts.NAME=null` sets them."""
        if not isinstance(experts, Mapping):
            return experts
        return {name: config for name, config in experts.items() if config is not None}

    def judge(self) -> JudgeConfig:
        """Return the configuration of the fuser.

        Raises:
            ConfigError: It names no backend, has an unknown key, or a key that a fuser does not read.
        """
        judge = JudgeConfig.of(self.fuser)
        for key in ("prompt", "crops", "detections"):
            if getattr(judge, key):
                raise ConfigError(
                    f"fuser.{key} has no use here: the preset's `prompt` and experts say what the fuser is told"
                )
        return judge

    def fingerprint(self) -> str:
        """Return a digest of everything that decides the rows. Limits and retries of the fuser are not among it."""
        judge = self.judge()
        decides = self.model_dump(exclude={"fuser", "paper", "deviations"})
        backend = judge.backend.name if isinstance(judge.backend, JudgeBackend) else repr(judge.backend)
        fuser = [backend, judge.sampling, judge.image]
        return content_hash(
            preset=decides, fuser=fuser, prompts=[prompt_path(name).read_text("utf-8") for name in self.prompts()]
        )

    def prompts(self) -> tuple[str, str]:
        """Return the names of the two prompt files."""
        return self.prompt, self.rewrite_prompt


def prompt_path(name: str) -> Path:
    """Return the path of a prompt file: a shipped one by its name, or any path.

    Raises:
        ConfigError: There is no such file.
    """
    for path in (Path(name).expanduser(), PROMPTS / name):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.name for path in PROMPTS.glob("*.txt")))
    raise ConfigError(f"there is no prompt file {name}; shipped: {known}")


def preset_names() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str, overrides: Sequence[str] = ()) -> Preset:
    """Load a shipped preset by its name, or a preset file by its path.

    Raises:
        ConfigError: There is no such preset, or a key or value is wrong.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        if name not in preset_names():
            raise ConfigError(unknown("preset", name, preset_names()) + "; or name a .yaml file")
        path = FOLDER / f"{name}.yaml"
    preset = load_config(Preset, path, overrides)
    _check_names("ranking.experts", preset.ranking.experts if preset.ranking else [], preset.experts)
    _check_names("verify.evidence", preset.verify.evidence, preset.experts)
    evidence = len(preset.verify.evidence or preset.experts)
    if preset.verify.experts > evidence:
        raise ConfigError(f"verify.experts asks for {preset.verify.experts} experts, but {evidence} give evidence")
    preset.judge()
    return preset


def _check_names(key: str, names: Sequence[str], experts: Mapping[str, ExpertConfig]) -> None:
    for name in names:
        if name not in experts:
            raise ConfigError(f"{key}: {unknown('expert', name, experts)}")
