"""Coverage-guided fuzzing of the parsers of text that others write: inputs that reach new branches are varied further.

    pip install atheris
    python tests/support/fuzz_parsers.py yaml -max_total_time=600
    python tests/support/fuzz_parsers.py verdict | objects | captions | log

`test_fuzz.py` draws structured inputs with hypothesis, in every test run. This script starts from bytes, needs no grammar, and
finds what nobody thought of in minutes rather than in a test run, so that only a scheduled job runs it. Each input must give a
result or an error of ours, in one line. Atheris's hook for regular expressions stays off: in 3.0 its patterns lack arguments
that `json` passes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SEEDS = {
    "yaml": b"train: {steps: 3, seed: 0x1f}\nmix:\n  a: &a [1.5, 2e-3, ~, yes]\n  b: *a\n# end\n",
    "verdict": b"<critique>Bad.</critique>\n<wrong>\n- a cat\n</wrong>\n<missing>\nnone\n</missing>\n<score>7</score>\n",
    "objects": b"<objects>\n- a dog | a cat\n- a ball\n</objects>\n",
    "captions": b'{"sample_id": "a", "caption": "A ball.", "references": ["a ball"], "meta": {"k": 1}}\n',
    "log": b'{"step": 1, "metrics": {"loss": 0.5}}\n{"step": 2}\n',
}
"""Target → an input that it takes, from which the fuzzer starts."""


def make_targets() -> dict[str, Callable[[bytes], object]]:
    """Return name → parser of bytes. The imports stand here, so that atheris can watch them."""
    from rlcap.config.yaml_text import parse_yaml
    from rlcap.data.captions import read_captions, to_batch
    from rlcap.io.text import read_log
    from rlcap.judge.parsing import parse_verdict
    from rlcap.rewards.aloha.parsing import parse_objects

    path = Path(tempfile.mkdtemp()) / "rows.jsonl"

    def from_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def parse(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return parse

    def from_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: read(data.decode("utf-8", "replace"))

    return {
        "yaml": from_text(lambda text: parse_yaml(text, "config.yaml")),
        "verdict": from_text(parse_verdict),
        "objects": from_text(parse_objects),
        "captions": from_file(lambda file: to_batch(read_captions(file), {})),
        "log": from_file(read_log),
    }


def check(parse: Callable[[bytes], object], data: bytes) -> None:
    """Parse the input, and check that what is wrong with it is said in one line that can be written."""
    from rlcap.errors import InputError, ReplyFormatError

    try:
        parse(data)
    except (InputError, ReplyFormatError) as error:
        text = str(error)
        text.encode()
        assert len(text) < 5000, text[:200]


def main() -> None:
    """Fuzz the target that the first argument names; the others are libFuzzer's."""
    import atheris

    with atheris.instrument_imports(include=["rlcap", "yaml", "json"]):
        targets = make_targets()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in targets:
        sys.exit(f"name a target: {', '.join(targets)}")
    corpus = Path(tempfile.mkdtemp())
    (corpus / "seed").write_bytes(SEEDS[name])
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], lambda data: check(targets[name], data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
