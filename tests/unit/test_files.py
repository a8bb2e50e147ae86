from __future__ import annotations

import os
from pathlib import Path

import pytest

from ext_proc import files


@pytest.mark.parametrize("is_durable", [True, False])
def test_the_new_one_is_there_whole(tmp_path, *, is_durable):
    path = tmp_path / "state.json"
    files.replace(path, "ä", is_durable=is_durable)
    files.replace(path, b"two", is_durable=is_durable)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_durable", [True, False])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, *, is_durable):
    path = tmp_path / "state.json"
    files.replace(path, "one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, "two", is_durable=is_durable)
    assert path.read_text() == "one"


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    done = []
    real = os.fsync
    path = tmp_path / "state.json"

    def fsync(descriptor):
        done.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.replace(path, "one")
    assert done == [(str(files.unborn(path)), False), (str(tmp_path), True)]
