"""Inputs that nobody would write: each gives a result or an error of ours, in one line, and never another exception.

RLCAP_FUZZ sets the number of inputs of each test (default 250, so that the tests read 2,750 in all); a scheduled job sets 10,000.
The parsers are also fuzzed by coverage, in a scheduled job: support/fuzz_parsers.py.
"""

import io
import json
import os
import string

import pytest
from fuzz_parsers import SEEDS, check, make_targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rlcap.config.loading import dump, load_config
from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import DPOConfig, RefineConfig, SFTConfig
from rlcap.config.yaml_text import parse_yaml
from rlcap.data.bags import BagFile, is_bag_file, read_truematch
from rlcap.data.captions import read_captions, to_batch
from rlcap.data.loading import load_samples
from rlcap.errors import ImageError, InputError, ReplyFormatError
from rlcap.eval.captions_file import read_rows as read_evaluated
from rlcap.io.images import check_image, decode_image, open_image
from rlcap.io.text import read_log
from rlcap.judge.parsing import parse_verdict
from rlcap.rewards.aloha.parsing import parse_objects
from rlcap.rewards.bleu import Bleu
from rlcap.rewards.chair import Chair
from rlcap.rewards.cider import Cider
from rlcap.rewards.length import Length
from rlcap.rewards.repetition import Repetition
from rlcap.rewards.rouge import Rouge
from rlcap.rewards.style import Style
from rlcap.scorers.objects.vocabulary import Vocabulary
from rlcap.scorers.text.cider import CiderD
from rlcap.types import RewardBatch, Sample

EXAMPLES = int(os.environ.get("RLCAP_FUZZ") or 250)
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES == 250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

TEXT = st.text(max_size=30) | st.text(st.characters(categories=("Cs", "Cc", "Mn", "Zl", "Zp", "Lo", "So")), max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["id", "image", "references", "paragraph", "sample_id", "caption", "meta", "distractor_images", "images", "annotations",
     "image_id", "file_name", "schema", "levels", "model", "fingerprint", "about", "step", "split", "document_frequencies",
     "n_documents", "eos"]
)  # fmt: skip
ROWS = st.dictionaries(KEYS | TEXT, VALUES | st.sampled_from(["a.png", "b.png"]), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    Image.new("RGB", (16, 16), "red").save(folder / "a.png")
    Image.new("RGB", (16, 16), "blue").save(folder / "b.png")
    return folder


def one_line(error):
    """The message is one line that can be written and is not endless."""
    text = str(error)
    text.encode()
    assert len(text) < 5000, text[:200]


def dumps(value):
    """Return JSON with lone surrogates as escapes, as another program may write it."""
    return json.dumps(value).encode()


@fuzz
@given(st.sampled_from([GRPOConfig, SFTConfig, DPOConfig, RefineConfig]), st.dictionaries(st.sampled_from(
    ["model", "data", "generation", "train", "mix", "curriculum", "evaluation", "name", "output_dir", "resume", "report_to", "pairs",
     "reviser", "accept", "captions"]) | TEXT, VALUES | ROWS, max_size=5))  # fmt: skip
def test_configurations(folder, kind, values):
    path = folder / "config.yaml"
    path.write_bytes(dumps(values))
    try:
        dump(load_config(kind, path))
    except InputError as error:
        one_line(error)


@fuzz
@given(st.lists(st.tuples(st.sampled_from(["train.steps", "mix", "mix.length", "mix.length.params", "data.source", "curriculum",
    "model", "generation.temperature", "x", ""]), st.text(max_size=20) | VALUES.map(repr)), max_size=3))  # fmt: skip
def test_overrides(values):
    try:
        load_config(GRPOConfig, None, [f"{key}={value}" for key, value in values])
    except InputError as error:
        one_line(error)


@fuzz
@given(st.text(string.printable, max_size=60) | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
def test_yaml(text):
    try:
        parse_yaml(text, "config.yaml")
    except InputError as error:
        one_line(error)


@fuzz
@given(st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]), st.lists(ROWS, max_size=4) | ROWS | VALUES | st.binary(max_size=60),
       st.sampled_from(["error", "skip"]))  # fmt: skip
def test_data_sources(folder, suffix, content, on_bad):
    path = folder / f"rows{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif suffix == ".jsonl" and isinstance(content, list):
        path.write_bytes(b"\n".join(dumps(row) for row in content))
    else:
        path.write_bytes(dumps(content))
    try:
        for sample in load_samples(path, on_bad=on_bad, image_root=folder):
            f"{sample}".encode()
    except InputError as error:
        one_line(error)


@fuzz
@given(VALUES | ROWS | st.lists(st.lists(st.integers() | TEXT, max_size=4), max_size=4) | st.builds(
    lambda levels, about: {"schema": 1, "levels": levels, "about": about}, VALUES | st.dictionaries(TEXT, ROWS, max_size=2), VALUES))  # fmt: skip
def test_bag_files_frequencies_and_vocabularies(folder, value):
    path = folder / "bags.json"
    path.write_bytes(dumps(value))
    for read in (BagFile.read, read_truematch, is_bag_file):
        try:
            read(path)
        except InputError as error:
            one_line(error)
    for read in (CiderD.load, Vocabulary.read):
        try:
            read(path)
        except ValueError as error:
            one_line(error)


@fuzz
@given(st.lists(ROWS, max_size=4), st.binary(max_size=20))
def test_files_of_captions_and_logs(folder, rows, tail):
    path = folder / "captions.jsonl"
    path.write_bytes(b"\n".join(dumps(row) for row in rows) + b"\n" + tail)
    for read in (lambda: to_batch(read_captions(path), {}), lambda: read_evaluated(path), lambda: read_log(path)):
        try:
            read()
        except InputError as error:
            one_line(error)


@pytest.fixture(scope="module")
def rewards():
    return [
        Bleu(),
        Chair(),
        Cider([("a red ball.",), ("a dog.",)]),
        Length(),
        Repetition(),
        Rouge(),
        Style(phrases=["a ("]),
    ]


@fuzz
@given(st.lists(TEXT | st.text(max_size=300), min_size=1, max_size=3), st.lists(TEXT, max_size=3), st.none() | TEXT)
def test_captions_through_rewards(rewards, captions, references, paragraph):
    batch = RewardBatch(captions, [Sample("a", "", tuple(references), paragraph)] * len(captions))
    for reward in rewards:
        reward.check_output(reward.score(batch), batch)


@fuzz
@given(st.text(max_size=200) | st.lists(st.sampled_from(["<critique>", "</critique>", "<wrong>", "</wrong>", "<missing>", "</missing>",
    "<score>", "</score>", "<think>", "</think>", "```", "none", "- a", "5", "11", "nan", "\n", "|", "<objects>", "</objects>"]),
    max_size=20).map("".join))  # fmt: skip
def test_replies_of_judges(reply):
    for parse in (parse_verdict, parse_objects):
        try:
            parse(reply)
        except ReplyFormatError as error:
            one_line(error)


def encoded(kind):
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 30, 60)).save(stream, kind)
    return stream.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")}


@fuzz
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0, 60),
       st.binary(max_size=20))  # fmt: skip
def test_damaged_images(folder, kind, changes, cut, start):
    data = bytearray(WHOLE[kind])
    for place, value in changes:
        data[place % len(data)] = value
    path = folder / "damaged"
    path.write_bytes(start[: cut % 3] + bytes(data[: len(data) - cut]))
    for look in (check_image, decode_image, open_image):
        try:
            look(path)
        except ImageError as error:
            one_line(error)


@fuzz
@given(TEXT)
def test_paths_of_images(name):
    try:
        open_image(f"/nowhere/{name}")
    except ImageError as error:
        one_line(error)


@fuzz
@given(st.sampled_from(sorted(SEEDS)), st.binary(max_size=80), st.integers(0, 80))
def test_targets_of_the_coverage_guided_fuzzer(targets, name, data, place):
    whole = SEEDS[name]
    targets[name](whole)
    check(targets[name], data)
    check(targets[name], whole[:place] + data + whole[place:])


@pytest.fixture(scope="module")
def targets():
    return make_targets()
