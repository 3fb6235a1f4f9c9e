"""How close to the ideal is the time of a batch with a slow and faulty judge, and does a fault ever change a reward?

    python benchmarks/judge_runtime.py --json judge_runtime.json

A judge's server with OpenAI's protocol runs in a separate process. Each reply takes 200 ms, and every twentieth request
meets a fault (a 500, a hang, a web page, half a JSON, prose, a grade of 9999, in turn). A mix of two judges scores 64
captions through a backend (`--backend NAME`, any short name of `rlcap.judge.backends.loading.KINDS` whose class can be told the server's
address by `base_url` or `url`; `--handler` names a server with another protocol than OpenAI's), with 16 calls at once, 8 for each judge. The ideal is 128
calls x 200 ms / 16. Then the same batch is scored again from the cache on disk, and with a server without faults. The
targets are 1.5 times the ideal, 50 ms, and not one reward that differs; the exit code is 1 where one is missed.

Loading the client and the first connection are not counted: a batch of other captions goes first. A bare client shows
at the same time how close to the ideal the machine itself can come: 16 threads post the same 128 questions to the
server without faults and ignore the replies. By simulation, the faults alone raise the batch to 1.39 times the ideal,
because one of the last calls hangs, which costs its timeout and a second call.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rlcap.cli.arguments import positive
from rlcap.config.imports import resolve
from rlcap.errors import ConfigError
from rlcap.judge.backends.loading import KINDS

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "tests" / "support" / "judge_server.py"
FAULTS = ("500", "hang", "html", "half", "rude", "score")
JUDGES = 2
WITHIN_IDEAL = 1.5
CACHED_SECONDS = 0.05


@contextmanager
def server(latency: float, every: int, handler: str | None = None) -> Iterator[str]:
    """Run a judge in a separate process and yield its url. `handler` names the class of another protocol than OpenAI's."""
    command = [sys.executable, str(SERVER), "--latency", str(latency), "--every", str(every), "--kinds", *FAULTS]
    command += ["--handler", handler] if handler else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def backend_parameters(kind: str, url: str) -> dict[str, str]:
    """Return the parameters by which a backend asks the server at `url`, as far as its constructor has them.

    Raises:
        ConfigError: the backend can't be told an address.
    """
    accepted = inspect.signature(resolve(KINDS[kind])).parameters
    if not {"base_url", "url"} & set(accepted):
        raise ConfigError(f"--backend {kind}: it has no parameter base_url or url, so that it can't ask this server")
    offered = {
        "model": "openai/judge" if kind == "litellm" else "judge",
        "base_url": url,
        "url": url,
        "api_key_env": "RLCAP_BENCHMARK_KEY",
    }
    return {name: value for name, value in offered.items() if name in accepted}


def build_mix(kind: str, url: str, folder: Path, concurrency: int, timeout: float):
    """Return a mix of two judges, each with a cache in the folder, that share `concurrency` calls."""
    from rlcap.reward.mix import RewardMix, RewardTerm
    from rlcap.rewards.critique import Critique

    backend = {"type": kind, **backend_parameters(kind, url)}
    options = {"timeout": timeout, "backoff": 0.02, "concurrency": concurrency // JUDGES}
    return RewardMix(
        {
            f"judge_{k}": RewardTerm(
                Critique({"backend": backend, "cache": str(folder / f"{k}.sqlite"), **options}, penalty=k / 10)
            )
            for k in range(JUDGES)
        }
    )


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """The measurements of one batch."""

    seconds: float
    values: list[list[float | None]]
    """One row for each caption with one value for each judge, None for an abstention."""
    calls: int
    failures: int
    latency_p50: float
    """Median latency of the slower judge's calls in seconds, with retries and timeouts."""
    latency_p95: float
    """95th percentile of the same."""


def score_batch(mix, captions: Sequence[str]) -> JudgedBatch:
    """Score the captions and measure the time."""
    from rlcap.types import RewardBatch, Sample

    batch = RewardBatch(captions, [Sample("a", "", references=("a ball",))] * len(captions))
    start = time.perf_counter()
    scores = mix.score(batch)
    seconds = time.perf_counter() - start
    total = {key: sum(scores.metrics[f"{name}/{key}"] for name in mix.names) for key in ("calls", "failures")}
    latencies = [max(scores.metrics.get(f"{name}/latency_p{q}", 0.0) for name in mix.names) for q in (50, 95)]
    columns = [[score.value for score in scores.scores[name]] for name in mix.names]
    return JudgedBatch(
        seconds, list(zip(*columns, strict=True)), int(total["calls"]), int(total["failures"]), *latencies
    )


def time_bare_client(url: str, captions: Sequence[str], concurrency: int) -> float:
    """Return the seconds that plain threads take for the same questions."""
    from rlcap.rewards.critique import Critique
    from rlcap.types import Sample

    grader = Critique({"backend": {"type": "openai", "model": "judge", "base_url": url}, "cache": ":memory:"}).grader
    sample = Sample("a", "", references=("a ball",))

    def post(caption: str) -> None:
        user = {"role": "user", "content": grader.template.fill(grader.prompt_fields(caption, sample))}
        body = {"model": "judge", "messages": [{"role": "system", "content": grader.template.system}, user]}
        head = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), head)
        with urllib.request.urlopen(request) as response:
            response.read()

    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(post, captions[:concurrency]))
        start = time.perf_counter()
        list(pool.map(post, list(captions) * JUDGES))
        return time.perf_counter() - start


def measure(args: argparse.Namespace) -> tuple[dict[str, JudgedBatch], float]:
    """Measure the batch with faults, again from the cache, and without faults, and a bare client."""
    captions = [f"Caption number {i}: a ball, and what lies beside it." for i in range(args.captions)]
    warm_up = [f"Warming {i}." for i in range(args.concurrency)]
    batches = {}
    for name, every in (("faulty", args.every), ("faultless", 0)):
        with tempfile.TemporaryDirectory() as folder, server(args.latency, every, args.handler) as url:
            score_batch(build_mix(args.backend, url, Path(folder), args.concurrency, timeout=20.0), warm_up)
            batches[name] = score_batch(
                build_mix(args.backend, url, Path(folder), args.concurrency, args.timeout), captions
            )
            if every:
                batches["cached"] = score_batch(
                    build_mix(args.backend, url, Path(folder), args.concurrency, args.timeout), captions
                )
    with server(args.latency, 0) as url:  # of OpenAI's protocol, which the bare client speaks
        return batches, time_bare_client(url, captions, args.concurrency)


def main() -> None:
    """Measure, print the table and the targets, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="openai", choices=KINDS, help="its short name (default: %(default)s)")
    parser.add_argument(
        "--handler", help="file.py:Class that speaks the backend's protocol; see tests/support/judge_server.py"
    )
    parser.add_argument("--captions", type=positive, default=64)
    parser.add_argument("--concurrency", type=positive, default=16, help="calls at once, of both judges together")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of a reply")
    parser.add_argument("--every", type=positive, default=20, help="every n-th request meets a fault")
    parser.add_argument("--timeout", type=float, default=0.4, help="seconds after which a call is given up")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["RLCAP_BENCHMARK_KEY"] = "sk-of-this-benchmark-only"
    sys.path.insert(0, str(ROOT))
    try:
        backend_parameters(args.backend, "")
    except ConfigError as error:
        parser.error(str(error))
    batches, bare_seconds = measure(args)
    ideal = args.captions * JUDGES * args.latency / args.concurrency
    faulty, cached, faultless = batches["faulty"], batches["cached"], batches["faultless"]
    pairs = [
        (a, b)
        for row, other in zip(faulty.values, faultless.values, strict=True)
        for a, b in zip(row, other, strict=True)
    ]
    changed = sum(a is not None and a != b for a, b in pairs)
    abstained = sum(a is None for a, _ in pairs)
    targets = {
        f"within {WITHIN_IDEAL} x ideal": faulty.seconds <= WITHIN_IDEAL * ideal,
        f"cached within {CACHED_SECONDS * 1000:.0f} ms": cached.seconds <= CACHED_SECONDS and cached.calls == 0,
        "no reward changed": changed == 0 and cached.values == faulty.values,
    }
    print("| batch | seconds | of the ideal | calls | failed | latency p50 | p95 |\n|---|---|---|---|---|---|---|")
    for name, batch in batches.items():
        ratio = f"{batch.seconds / ideal:.2f}"
        latencies = f"{batch.latency_p50:.3f} s | {batch.latency_p95:.3f} s"
        print(f"| {name} | {batch.seconds:.3f} | {ratio} | {batch.calls} | {batch.failures} | {latencies} |")
    print(f"| bare client | {bare_seconds:.3f} | {bare_seconds / ideal:.2f} | {len(pairs)} | 0 | | |")
    print(f"\nideal {ideal:.2f} s; of {len(pairs)} rewards {changed} changed and {abstained} abstained")
    for name, is_met in targets.items():
        print(f"{'met   ' if is_met else 'MISSED'} {name}")
    if args.json:
        content = {
            "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
            "backend": args.backend,
            "ideal_seconds": ideal,
            "bare_seconds": bare_seconds,
            **{name: {k: v for k, v in asdict(batch).items() if k != "values"} for name, batch in batches.items()},
            "rewards": len(pairs),
            "changed": changed,
            "abstained": abstained,
            "targets": targets,
        }
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if all(targets.values()) else 1)


if __name__ == "__main__":
    main()
