import errno
import os
import signal
import subprocess
import sys

import pytest

from rlcap.errors import LockedError
from rlcap.io.lock import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from rlcap.io.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_holder_is_refused_until_the_first_dies(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"the run in .* is in use by process {first.pid} on \S+; wait"):
            FolderLock(tmp_path, "the run")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    lock = FolderLock(tmp_path)
    assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match=r"without locks \(No locks available\): start no second process"):
        FolderLock(tmp_path).release()


def test_a_lock_file_that_is_not_ours(tmp_path):
    lock = FolderLock(tmp_path)
    (tmp_path / ".lock").write_bytes(b"\xff not json")
    with pytest.raises(LockedError, match="in use by another process"):
        FolderLock(tmp_path)
    lock.release()
