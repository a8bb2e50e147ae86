"""Others' verifiers accept a log in tiles, and refuse one flipped bit in any of its files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.foreign.tiles import Tree
from tests.foreign.verifiers import BOTH_ACCEPT, BOTH_REFUSE, classes, flip, verdicts

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "demo.example/affidavit/gw-0-1/20261125T131654834573-b30b9d8a"
SIZES = (1, 255, 256, 257, 70_000)


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module", params=SIZES)
def log(request, tmp_path_factory, key) -> Path:
    folder = tmp_path_factory.mktemp(f"log{request.param}") / "log"
    Tree([f'{{"sequence":{number}}}'.encode() for number in range(request.param)]).write(folder, ORIGIN, key)
    return folder


def test_both_accept(log: Path):
    assert verdicts(log, ORIGIN) == BOTH_ACCEPT


def test_both_refuse_one_flipped_bit_in_each_class_of_file(log: Path):
    for name, path in classes(log).items():
        kept = path.read_bytes()
        flip(path)
        assert {name: verdicts(log, ORIGIN)} == {name: BOTH_REFUSE}
        path.write_bytes(kept)
    assert verdicts(log, ORIGIN) == BOTH_ACCEPT


def test_both_refuse_another_origin_and_a_missing_file(log: Path, tmp_path: Path):
    assert verdicts(log, ORIGIN + "x") == BOTH_REFUSE
    copy = shutil.copytree(log, tmp_path / "copy")
    name, gone = max((name, path) for name, path in classes(copy).items() if name.startswith("entries"))
    gone.unlink()
    assert {name: verdicts(copy, ORIGIN)} == {name: BOTH_REFUSE}


def test_the_largest_log_has_every_class(tmp_path: Path, key: Ed25519PrivateKey):
    Tree([b"x"] * SIZES[-1]).write(tmp_path, ORIGIN, key)
    levels = {f"{level} {kind}" for level in ("0", "1", "entries") for kind in ("full", "partial")}
    assert set(classes(tmp_path)) == levels | {"2 partial", "checkpoint", "log.vkey"}
