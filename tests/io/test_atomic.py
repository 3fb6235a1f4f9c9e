import errno
import os
import subprocess
import sys

import pytest

from rlcap.errors import StorageError
from rlcap.io.atomic import (
    append_rows,
    file_checksum,
    make_folder,
    replaced_file,
    storage_errors,
    write_json,
    write_text,
)


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert os.listdir(path.parent) == ["b.txt"]
    write_json(path, {"x": "ä"}, ensure_ascii=False)
    assert path.read_text(encoding="utf-8") == '{"x": "ä"}\n'


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_midway():
        with replaced_file(path) as partial:
            partial.write_text("ne")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_appending_after_a_cut_line_begins_a_new_line(tmp_path):
    path = tmp_path / "log.jsonl"
    append_rows(path, [{"step": 1}])
    append_rows(path, [{"step": 2}, {"step": 3}])
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    path.write_text('{"step": 1}\n{"st')
    append_rows(path, [{"step": 2}])
    assert path.read_text() == '{"step": 1}\n{"st\n{"step": 2}\n'


def test_checksum_golden(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert file_checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, r"the disk is full \(1,000 bytes are needed and [\d,]+ bytes are free\); make room"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only; choose another folder"),
        (errno.EACCES, "the permission is denied"),
        (errno.EIO, "the disk reports an input/output error"),
    ],
)
def test_the_place_of_a_file_is_named_as_the_cause(tmp_path, number, cause):
    expected = f"the checkpoint can't be written to {tmp_path}: {cause}"
    with pytest.raises(StorageError, match=expected), storage_errors(tmp_path, "the checkpoint", 1000):
        raise OSError(number, "seen")


def test_other_errors_pass_unchanged(tmp_path):
    for error in (OSError(errno.ECONNRESET, "reset"), RuntimeError("another cause"), KeyError("x")):
        with pytest.raises(type(error)) as seen, storage_errors(tmp_path, "the file"):
            raise error
        assert seen.value is error


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"the run's folder can't be written to .*file: a file stands where a folder"
    ):
        make_folder(tmp_path / "file", "the run's folder")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="the summary can't be written"):
        write_text(tmp_path / "file" / "x.txt", "", "the summary")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="the permission is denied"):
            write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)


LIMITED = """
import resource, signal, sys
import torch
from safetensors.torch import save_file
from rlcap.errors import StorageError
from rlcap.io import atomic

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = sys.argv[1]
atomic.append_rows(folder + "/log.jsonl", [{"step": 1}])
for write in (
    lambda: atomic.write_text(folder + "/a.txt", "x" * 5000, "the text"),
    lambda: atomic.append_rows(folder + "/log.jsonl", [{"text": "x" * 5000}], "the metrics"),
    lambda: torch.save(torch.zeros(5000), folder + "/o.pt"),
    lambda: save_file({"x": torch.zeros(5000)}, folder + "/m.safetensors"),
):
    try:
        with atomic.storage_errors(folder, "the checkpoint", 5000):
            write()
    except StorageError as error:
        print(error)
"""


def test_a_write_that_meets_a_limit(tmp_path):
    """A limit on the size of files fails like a full disk, which needs no administrator to make."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done
    assert lines[0].startswith(f"the text can't be written to {tmp_path}/a.txt: the file would be larger")
    assert lines[1].startswith(f"the metrics can't be written to {tmp_path}/log.jsonl")
    assert all("the checkpoint can't be written" in line for line in lines[2:])
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'
    assert not list(tmp_path.glob("*a.txt*"))
