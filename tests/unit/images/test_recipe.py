"""The recipe of the images: everything of it is pinned, the locks agree, and the ``Dockerfile`` says the same."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import debian, recipe, wheels
from images.archive import File, Link, Tree
from images.debian import ImageError, Package
from images.sbom import Component, bill
from scripts import setup

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "images" / "Dockerfile").read_text()
EPOCH = 1_700_000_000


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


def test_every_package_of_debian_is_locked_and_no_other() -> None:
    wanted = (*recipe.GROUND, *recipe.RUNTIME, *recipe.PYTHON)
    assert [one.name for one in debian.locked(wanted)] == sorted(wanted)
    assert len(debian.LOCK.read_text().splitlines()) == len(wanted) + 1
    with pytest.raises(ImageError, match=r"does not have nothing-of-that-name: run `make images-lock`"):
        debian.locked(["nothing-of-that-name"])


def test_the_lock_of_the_images_is_the_gates_with_the_databases_driver_and_the_collectors_exporter() -> None:
    ours, gates = pins(wheels.LOCK), pins(ROOT / "requirements.lock")
    more = {name for name in ours if name not in gates}
    assert {name for name in more if not name.startswith("opentelemetry-")} == {"psycopg", "psycopg-binary"}
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-common"} <= more
    assert {name: version for name, version in ours.items() if name in gates and gates[name] != version} == {}
    entries = re.split(r"\n(?=\S)", wheels.LOCK.read_text().strip())
    assert all("--hash=sha256:" in one for one in entries)


def test_the_dockerfile_says_the_same() -> None:
    stages = dict(re.findall(r"^FROM scratch AS (\S+)\n((?:.+\n?)+)", DOCKERFILE, re.MULTILINE))
    assert set(stages) == set(recipe.MANNERS)
    for name, said in stages.items():
        manner = recipe.MANNERS[name]
        lines = dict(line.split(" ", 1) for line in said.splitlines())
        assert json.loads(lines["ENTRYPOINT"]) == [manner.program]
        assert lines["USER"] == f"{recipe.USER}:{recipe.USER}"
        assert dict(pair.split("=", 1) for pair in lines["ENV"].split()) == manner.environment
        assert lines["COPY"] == f"--from=made /made/{name} /"
    [named] = re.findall(r"scripts/setup\.py (.+)", DOCKERFILE)
    assert {one.result.name for one in setup.chosen(named.split())} == {"envoy", "opa"}
    assert f"debian:{'bookworm'}-slim" in DOCKERFILE
    assert debian.RELEASE == "12"


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("DEBIAN/control", False),
        ("usr/bin/python3.11", True),
        ("usr/bin/pdb3.11", False),
        ("usr/sbin/update-ca-certificates", False),
        ("usr/share/doc/libc6/copyright", True),
        ("usr/share/doc/libc6/changelog.Debian.gz", False),
        ("usr/share/man/man1/x.1.gz", False),
        ("usr/lib/python3.11/json/decoder.py", True),
        ("usr/lib/python3.11/ensurepip/__init__.py", False),
        ("usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", True),
        ("usr/lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so", False),
        ("lib/x86_64-linux-gnu/libc.so.6", True),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", False),
    ],
)
def test_what_is_left_out_of_debians_packages(path: str, is_wanted: bool, tmp_path: Path) -> None:
    package = Package("one", "1", "0" * 64)
    file = tmp_path / package.sha256 / path
    file.parent.mkdir(parents=True)
    file.write_text("content")
    control = tmp_path / package.sha256 / "DEBIAN" / "control"
    control.parent.mkdir(exist_ok=True)
    control.write_text("Package: one\n")
    tree = Tree()
    debian.put_packages(tree, [package], tmp_path)
    status = tree.entries.pop("var/lib/dpkg/status.d/one")
    assert isinstance(status, File)
    assert status.read().startswith(b"Package: one\n")
    assert list(tree.entries) == ([path if path.startswith("usr/") else f"usr/{path}"] if is_wanted else [])


def apt(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """An apt-get of the test's, before the machine's own."""
    program = folder / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_package_that_is_not_the_locked_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt(tmp_path, monkeypatch, 'echo other > "one_1_amd64.deb"')
    with pytest.raises(ImageError, match=r"one_1_amd64\.deb is not the one that is locked: do not use it"):
        debian.fetch([Package("one", "1", hashlib.sha256(b"one").hexdigest())], tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".downloads"]


def test_a_version_that_the_archive_has_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt(tmp_path, monkeypatch, "echo 'E: Version not found' >&2; exit 100")
    with pytest.raises(ImageError, match=r"(?s)one 1 is not to be had .*Version not found.*make images-lock"):
        debian.fetch([Package("one", "1", "0" * 64)], tmp_path / "cache")


def test_authorities_are_one_file_in_order(tmp_path: Path) -> None:
    package = Package("ca-certificates", "1", "0" * 64)
    folder = tmp_path / package.sha256 / "usr" / "share" / "ca-certificates" / "mozilla"
    folder.mkdir(parents=True)
    (folder / "b.crt").write_bytes(b"B\n\n")
    (folder / "a.crt").write_bytes(b"A")
    assert debian.authorities([package], tmp_path) == b"A\nB\n"


def components() -> Sequence[Component]:
    return [
        Component(
            "libc6", "2.36-9+deb12u14", "pkg:deb/debian/libc6@2.36-9+deb12u14?arch=amd64&distro=debian-12", "0" * 64
        ),
        Component("pyjwt", "2.15.0", "pkg:pypi/pyjwt@2.15.0", licence="MIT OR Apache-2.0"),
        Component("zlib1g", "1:1.2.13.dfsg-1", "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12"),
    ]


def test_a_bill_is_cyclonedx_and_always_the_same() -> None:
    made = bill("affidavit", "1.0", components(), EPOCH)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.decode()) is None
    assert made == bill("affidavit", "1.0", reversed(components()), EPOCH)
    assert made != bill("affidavit", "1.0", components()[:2], EPOCH)
    told = json.loads(made)
    assert [one["name"] for one in told["components"]] == ["libc6", "pyjwt", "zlib1g"]
    assert told["components"][0]["purl"].startswith("pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64")


def test_time_comes_from_outside_or_from_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "123")
    assert recipe.epoch() == 123
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH must be a number"):
        recipe.epoch()


def test_our_own_files_are_those_that_git_knows() -> None:
    files = wheels.code()
    assert f"{wheels.CODE}/ext_proc/cli/__init__.py" in files
    assert f"{wheels.CODE}/envoy/bootstrap.yaml" in files, "the gate renders Envoy's files from it"
    assert not [path for path in files if "__pycache__" in path or "/tests/" in path]


def test_a_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen = recipe.Kitchen(tmp_path, tmp_path, EPOCH, "0123abc")
    monkeypatch.setattr(kitchen, "_debian", lambda names: Tree())
    monkeypatch.setattr(recipe, "authorities", lambda *_: b"")
    with pytest.raises(ImageError, match="opa is not there: run `make setup`"):
        kitchen.image("affidavit-opa")
    (tmp_path / "opa").write_bytes(b"program")
    image = kitchen.image("affidavit-opa")
    assert image.layers[-1].entries["usr/bin/opa"] == File(tmp_path / "opa", 0o755)
    assert image.layers[0].entries["bin"] == Link("usr/bin")
    assert b":10001:10001:" in image.layers[0].entries["etc/passwd"].read()  # type: ignore[union-attr]
    told = json.loads(image.layers[-1].entries[recipe.bill_path("affidavit-opa")].read())  # type: ignore[union-attr]
    assert hashlib.sha256(b"program").hexdigest() in json.dumps(told)
