"""Bundles: equal sources, equal bytes; and a file that is not a bundle is not taken for one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy import bundle
from ext_proc.policy.bundle import OddArchive, build, read_version
from tests.fakes.asked import POLICY, write_policy
from tests.fakes.policy import ROOT, opa_program

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "opa", elsewhere)
    for file in elsewhere.rglob("*"):
        os.utime(file, (1, 1))
    (elsewhere / "README.md").write_text("not part of it")
    (elsewhere / "inference" / "more_test.rego").write_text("package more_test\n")
    one = build(opa_program(), ROOT / "opa", tmp_path / "one.tar.gz")
    two = build(opa_program(), elsewhere, tmp_path / "two.tar.gz")
    assert one == two == read_version(tmp_path / "one.tar.gz")
    assert one.digest == hashlib.sha256((tmp_path / "two.tar.gz").read_bytes()).hexdigest()
    assert one.revision.startswith("sha256:")


def test_another_word_is_another_revision(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "opa", elsewhere)
    data = elsewhere / "data.json"
    data.write_text(data.read_text().replace('"analysts"', '"others"'))
    one = build(opa_program(), ROOT / "opa", tmp_path / "one.tar.gz")
    two = build(opa_program(), elsewhere, tmp_path / "two.tar.gz")
    assert one.revision != two.revision
    assert one.digest != two.digest


def test_no_tests_and_no_schemas_in_it(tmp_path: Path) -> None:
    build(opa_program(), ROOT / "opa", tmp_path / "one.tar.gz")
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        names = archive.getnames()
    assert not [name for name in names if name.endswith("_test.rego") or "schemas" in name]
    assert "/inference/decision.rego" in names


def test_bad_rego_is_refused(tmp_path: Path) -> None:
    sources = tmp_path / "opa"
    (sources / "inference").mkdir(parents=True)
    (sources / "data.json").write_text("{}")
    (sources / "inference" / "decision.rego").write_text("package inference\n\ndecision := nothing\n")
    with pytest.raises(ConfigError, match="opa build"):
        build(opa_program(), sources, tmp_path / "bundle.tar.gz")


def test_no_opa(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        build(tmp_path / "opa", ROOT / "opa", tmp_path / "bundle.tar.gz")


def _archive(path: Path, name: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x1f\x8b\x08\x00garbage"])
def test_not_an_archive(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bundle.tar.gz"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not a policy bundle"):
        read_version(file)


@pytest.mark.parametrize("manifest", [b"{", b"[]", b"7"])
def test_bad_manifest(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(ConfigError, match="not a policy bundle"):
        read_version(_archive(tmp_path / "bundle.tar.gz", "/.manifest", manifest))


def test_truncated(tmp_path: Path) -> None:
    build(opa_program(), ROOT / "opa", tmp_path / "one.tar.gz")
    file = tmp_path / "cut.tar.gz"
    file.write_bytes((tmp_path / "one.tar.gz").read_bytes()[:500])
    with pytest.raises(ConfigError, match="not a policy bundle"):
        read_version(file)


def test_missing_file_and_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing: No such file or directory$"):
        read_version(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"Is a directory$"):
        read_version(tmp_path)
    with pytest.raises(ConfigError, match="not a policy bundle"):
        read_version(_archive(tmp_path / "bundle.tar.gz", "data.json", b"{}"))


@pytest.mark.parametrize("manifest", [b"{}", b'{"revision": ""}', b'{"revision": 7}'])
def test_no_revision(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(ConfigError, match="no revision"):
        read_version(_archive(tmp_path / "bundle.tar.gz", "/.manifest", manifest))


def test_a_number_is_part_of_the_bundle_and_its_revision(tmp_path: Path) -> None:
    sources = write_policy(tmp_path / "policy")
    made = [bundle.build(opa_program(), sources, tmp_path / f"{n}.tar.gz", number=n) for n in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert made[0].revision != made[2].revision
    assert bundle.read_facts((tmp_path / "2.tar.gz").read_bytes()).number == 2
    assert not (sources / ".manifest").exists(), "nothing is written where the sources are"


@pytest.mark.parametrize("call", ["time.now_ns() > 0", 'rand.intn("a", 2) == 1', "opa.runtime().env.A"])
def test_what_answers_differently_each_time_is_not_built(tmp_path: Path, call: str) -> None:
    target = tmp_path / "b.tar.gz"
    target.write_bytes(b"the one before")
    with pytest.raises(ConfigError, match="undefined function"):
        bundle.build(
            opa_program(), write_policy(tmp_path / "policy", f'{POLICY}\nreasons contains "x" if {call}\n'), target
        )
    assert target.read_bytes() == b"the one before"


def test_whatever_is_in_the_bundle_is_in_its_revision(tmp_path: Path) -> None:
    sources = write_policy(tmp_path / "policy")
    before = bundle.build(opa_program(), sources, tmp_path / "a.tar.gz")
    (sources / "more").mkdir()
    (sources / "more" / "lib.rego").write_text("package more\n\na := 1\n")
    assert bundle.build(opa_program(), sources, tmp_path / "b.tar.gz").revision != before.revision


MANIFEST = json.dumps({"revision": "r1", "metadata": {"affidavit_number": 99}}).encode()


def _tar(*members: tuple[str, bytes, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "/.manifest"
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


PLAIN = ("/.manifest", tarfile.REGTYPE, MANIFEST)
RULE = ("/a/b.rego", tarfile.REGTYPE, b"package a")


@pytest.mark.parametrize(
    "members",
    [
        [PLAIN, RULE],
        [(".manifest", tarfile.REGTYPE, MANIFEST), ("/a", tarfile.DIRTYPE, b""), RULE],
        [PLAIN, (f"/{'long/' * 40}b.rego", tarfile.REGTYPE, b"package a")],
    ],
)
def test_what_opa_builds_is_plain(members: list[tuple[str, bytes, bytes]]) -> None:
    assert bundle.read_facts(gzip.compress(_tar(*members))).number == 99


@pytest.mark.parametrize(
    "members",
    [
        [PLAIN, PLAIN],
        [PLAIN, ("//.manifest", tarfile.REGTYPE, MANIFEST)],
        [PLAIN, ("./.manifest", tarfile.REGTYPE, MANIFEST)],
        [PLAIN, ("/a/.manifest", tarfile.REGTYPE, MANIFEST)],
        [PLAIN, ("/x.manifest", tarfile.REGTYPE, MANIFEST)],
        [RULE, ("/.manifest", tarfile.CONTTYPE, MANIFEST)],
        [RULE, ("/.manifest", tarfile.GNUTYPE_SPARSE, MANIFEST)],
        [PLAIN, ("/b.rego", tarfile.SYMTYPE, b"")],
        [PLAIN, ("/b.rego", tarfile.LNKTYPE, b"")],
        [PLAIN, ("/b.rego", tarfile.FIFOTYPE, b"")],
        [PLAIN, ("/../b.rego", tarfile.REGTYPE, b"package a")],
        [PLAIN, ("/a\\b.rego", tarfile.REGTYPE, b"package a")],
        [PLAIN, ("/a\nb.rego", tarfile.REGTYPE, b"package a")],
        [PLAIN, ("/patch.json", tarfile.REGTYPE, b'{"data": []}')],
        [PLAIN, ("/policy.wasm", tarfile.REGTYPE, b"\0asm")],
        [PLAIN, ("/a/.signatures.json", tarfile.REGTYPE, b"{}")],
    ],
)
def test_what_others_might_read_in_another_way_is_no_bundle(members: list[tuple[str, bytes, bytes]]) -> None:
    with pytest.raises(OddArchive):
        bundle.read_facts(gzip.compress(_tar(*members)))


def test_nothing_lies_behind_it_and_no_name_before_it() -> None:
    plain, second = _tar(PLAIN, RULE), _tar(("/.manifest", tarfile.REGTYPE, MANIFEST))
    long = io.BytesIO()
    with tarfile.open(fileobj=long, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("/" + "a" * 200 + ".rego"))
    for tar in (plain + second, plain + b"\0" * 512 + b"x", long.getvalue()):
        with pytest.raises(OddArchive):
            bundle.read_facts(gzip.compress(tar))
    for raw in (gzip.compress(plain) + gzip.compress(second), gzip.compress(plain) + b"x", gzip.compress(plain)[:-4]):
        with pytest.raises(ConfigError, match="not a policy bundle"):
            bundle.read_facts(raw)


def test_what_looks_at_opa_itself_is_not_built(tmp_path: Path) -> None:
    for number, rule in enumerate(
        (
            'reasons contains "x" if not data.system.bundles.policy',
            'own := data.system\n\nreasons contains "x" if own["bundles"]',
            'reasons contains "x" if {\n\tsome name\n\tdata.system[name].policy\n}',
        )
    ):
        sources = write_policy(tmp_path / str(number), f"{POLICY}\n{rule}\n")
        with pytest.raises(ConfigError, match=r"data\.system"):
            bundle.build(opa_program(), sources, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_UNPACKED_MAX_BYTES", 100_000)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name in ("a", "b", ".manifest"):
            member = tarfile.TarInfo(name)
            member.size = 200_000
            archive.addfile(member, io.BytesIO(bytes(200_000)))
    with pytest.raises(ConfigError, match="not a policy bundle"):
        bundle.read_version(tmp_path / "b.tar.gz")
