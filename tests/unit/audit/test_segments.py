from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ext_proc.audit import segments

OTHER = """
import sys
from pathlib import Path
from ext_proc.audit import segments
print(segments.take_lock(Path(sys.argv[1])) is None, flush=True)
sys.stdin.read()
"""


def other_process(folder):
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_segment_is_allocated_on_the_disk_and_all_zeros(tmp_path):
    segments.FileOps().allocate(tmp_path / "spare", 100_000)
    status = (tmp_path / "spare").stat()
    assert status.st_size == 100_000
    assert status.st_blocks * 512 >= 100_000, "blocks are there: no hole"
    assert not any((tmp_path / "spare").read_bytes())
    assert status.st_mode & 0o777 == 0o600


def test_extend_keeps_what_is_there(tmp_path):
    ops = segments.FileOps()
    ops.allocate(tmp_path / "spare", 1000)
    descriptor = os.open(tmp_path / "spare", os.O_RDWR)
    ops.write(descriptor, b"frames", 0)
    ops.extend(descriptor, 3000)
    os.close(descriptor)
    assert (tmp_path / "spare").read_bytes() == b"frames".ljust(3000, b"\0")


def test_names_sort_as_sequences_do():
    numbers = [0, 9, 10, 999, 10**9]
    names = [segments.name_of(number, segments.SEALED) for number in numbers]
    assert sorted(names) == names


def test_the_lock_is_one_process_s_and_goes_with_it(tmp_path):
    with other_process(tmp_path) as other:
        assert other.stdout.readline() == "False\n"
        assert segments.take_lock(tmp_path) is None
        other.kill()
        other.wait()
    mine = segments.take_lock(tmp_path)
    assert mine is not None
    with other_process(tmp_path) as other:
        assert other.stdout.readline() == "True\n"
        other.stdin.close()
    os.close(mine)


def test_a_child_does_not_inherit_the_lock(tmp_path):
    lock = segments.take_lock(tmp_path)
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/cat"], stdin=pipe, stdout=pipe, bufsize=0, close_fds=False) as child:
        child.stdin.write(b"x")
        assert child.stdout.read(1) == b"x"  # it runs: the kernel wakes us before it closes what is not inherited
        os.close(lock)
        again = segments.take_lock(tmp_path)
        assert again is not None
        child.stdin.close()
    os.close(again)


def test_used_bytes_counts_every_epoch(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.sealed").write_bytes(b"12345")
    (tmp_path / "file").write_bytes(b"no epoch")
    assert segments.used_bytes(tmp_path) == 10


@pytest.mark.parametrize("what", ["folder", "file"])
def test_used_bytes_while_the_shipper_frees(tmp_path, monkeypatch, what):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.sealed").write_bytes(b"12345")
    real = os.scandir

    def racing(folder):
        folder = Path(folder)  # newer Pythons list a folder through here, by its name as text
        if folder.name == "a":
            found = list(real(folder)) if what == "file" else None
            (folder / "x.sealed").unlink()
            folder.rmdir()
            return found if what == "file" else real(folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", racing)
    assert segments.used_bytes(tmp_path) == 5
