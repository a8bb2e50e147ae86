from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.audit import merkle
from ext_proc.evidence.directory import ExportedVersions
from ext_proc.evidence.events import objects_of
from ext_proc.evidence.export import export
from ext_proc.evidence.names import LogName
from ext_proc.evidence.places import place_of
from ext_proc.evidence.tiles import TileWriter, tile_name
from ext_proc.evidence.versions import EvidenceError, fetch, firsts
from ext_proc.verify import verify
from tests.fakes import forge as forging
from tests.fakes.recorded import GATEWAY, NOON, Recorded
from tests.fakes.versions import FakeVersions


def quiet(_progress):
    pass


def forged_store(forge: forging.Forge) -> FakeVersions:
    store = FakeVersions(at=forging.NOW)
    for one in sorted(forge.bucket.versions, key=lambda one: one.at):
        store.put(one.key, one.body, one.at)
    return store


@pytest.fixture(scope="module")
def forge():
    return forging.build()


def lines(folder):
    return [json.loads(line) for line in (folder / "inventory.jsonl").read_text().splitlines()]


def test_verifier_accepts_an_export_of_a_bucket_that_a_second_writer_made(forge, tmp_path):
    report = export(forged_store(forge), tmp_path / "copy", quiet)
    assert report.problems == ()
    assert report.logs == len(forge.built)
    assert report.leaves == sum(len(one.leaves) for one in forge.built.values())
    found = verify(str(tmp_path / "copy"), forge.policy(tmp_path / "policy.yaml"), jobs=1)
    assert found.findings == []
    assert found.leaves == report.leaves


def test_trees_are_byte_for_byte_those_of_a_second_writer(forge, tmp_path):
    export(forged_store(forge), tmp_path / "copy", quiet)
    forging.write_trees(forge.bucket, tmp_path / "trees")

    def files(root):
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert files(tmp_path / "copy" / "logs") == files(tmp_path / "trees")


def test_later_versions_and_markers_are_kept_and_found(forge, tmp_path):
    store = forged_store(forge)
    key = next(one.key for one in forge.bucket.versions if one.key.startswith("v1/events/"))
    store.put(key, b"another", forging.NOW)
    store.put(key, None, forging.NOW)
    store.put(key, b"a third", forging.NOW)
    export(store, tmp_path / "copy", quiet)
    mine = [one for one in lines(tmp_path / "copy") if one["key"] == key]
    assert [one["file"] for one in mine] == [f"objects/{key}", f"versions/{key}/1", None, f"versions/{key}/2"]
    assert [one["is_latest"] for one in mine] == [False, False, False, True]
    assert [one["is_delete_marker"] for one in mine] == [False, False, True, False]
    assert (tmp_path / "copy" / f"versions/{key}/2").read_bytes() == b"a third"
    codes = [one.code for one in verify(str(tmp_path / "copy"), forge.policy(tmp_path / "p.yaml"), jobs=1).findings]
    assert sorted(set(codes)) == ["delete_marker", "version_extra"]


def test_inventory_is_canonical_sorted_and_summed(forge, tmp_path):
    folder = tmp_path / "copy"
    report = export(forged_store(forge), folder, quiet)
    raw = (folder / "inventory.jsonl").read_bytes()
    told = lines(folder)
    assert [one["key"] for one in told] == sorted(one["key"] for one in told)
    assert raw == b"".join(json.dumps(one, sort_keys=True, separators=(",", ":")).encode() + b"\n" for one in told)
    sums = dict(reversed(line.split("  ")) for line in (folder / "inventory.sha256").read_text().splitlines())
    assert sums["inventory.jsonl"] == hashlib.sha256(raw).hexdigest() == report.inventory_sha256
    assert sums["bucket.json"] == hashlib.sha256((folder / "bucket.json").read_bytes()).hexdigest()
    assert json.loads((folder / "bucket.json").read_text()) == {
        "bucket": "evidence",
        "prefix": "",
        "versioning": "Enabled",
        "object_lock": {"enabled": True, "mode": "COMPLIANCE", "days": 400},
        "exported_at": "2026-11-25T00:30:30.000000Z",
    }
    first = told[0]
    assert first["lock_mode"] == "COMPLIANCE"
    assert first["legal_hold"] is False
    assert first["retain_until"] > first["last_modified"]


HOSTILE = [
    "v1/a",
    "v1/a/b",
    "v1/a/b/c.note",
    "../../etc/passwd",
    "/etc/passwd",
    "v1//x.note",
    "v1/./x.note",
    "v1/../../x.note",
    "v1/x.note/y.note",
    "v1/x.note",
    "v1/x.note/1",
    "v1/" + "n" * 900 + ".note",
    "v1/" + "/".join("d" * 400) + ".note",
    "v1/line\nbreak.note",
    "v1/\u202eevil.note",
    "v1/sp ace.note",
    "@/" + "0" * 64,
    "inventory.jsonl",
    "v1/bell\x07.pack",
    ".partial",
]


def test_hostile_keys_stay_inside_and_apart(tmp_path):
    store = FakeVersions()
    for key in HOSTILE:
        store.put(key, f"first {key}".encode())
        store.put(key, f"second {key}".encode())
    export(store, tmp_path / "deep" / "copy", quiet)
    assert sorted(one.name for one in (tmp_path / "deep").iterdir()) == ["copy"]
    copy = ExportedVersions(tmp_path / "deep" / "copy")
    for key in set(HOSTILE):
        found = [one for one in copy.versions(key) if one.key == key]
        assert [fetch(copy, one) for one in found] == [f"first {key}".encode(), f"second {key}".encode()]
    files = [one["file"] for one in lines(tmp_path / "deep" / "copy")]
    assert len(files) == len(set(files)) == 2 * len(set(HOSTILE))


def test_two_names_that_a_file_system_takes_for_one_go_apart(tmp_path):
    """Here the second file is there already, as it would be where case does not count."""
    assert place_of("v1/A.note", 0) == "objects/v1/A.note"
    assert place_of("v1/A.note", 0, is_plain=False).startswith("objects/@/")


def test_refuses_a_directory_that_holds_something(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").write_text("x")
    with pytest.raises(EvidenceError, match="not empty"):
        export(FakeVersions(), tmp_path / "copy", quiet)
    (tmp_path / "other.partial").mkdir()
    with pytest.raises(EvidenceError, match="interrupted"):
        export(FakeVersions(), tmp_path / "other", quiet)
    assert not (tmp_path / "other").exists()


def test_failure_leaves_nothing_behind(tmp_path):
    class Broken(FakeVersions):
        def download(self, version, into):
            if version.key == "v1/b.note":
                raise EvidenceError("down")
            return super().download(version, into)

    store = Broken()
    for name in "abc":
        store.put(f"v1/{name}.note", b"x")
    with pytest.raises(EvidenceError, match="down"):
        export(store, tmp_path / "copy", quiet)
    assert list(tmp_path.iterdir()) == []


def test_what_vanishes_meanwhile_is_told_and_what_comes_later_left_out(tmp_path):
    store = FakeVersions()
    store.put("v1/canary/e/x", b"bait")
    store.put("v1/keys/000000-0.note", b"there")
    store.put("v1/late.note", b"late", datetime(2027, 1, 1, tzinfo=UTC))
    store.vanished = {"v1/canary/e/x"}
    report = export(store, tmp_path / "copy", quiet)
    assert report.problems == ("v1/canary/e/x is not there",)
    assert [one["key"] for one in lines(tmp_path / "copy")] == ["v1/keys/000000-0.note"]


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda body: b"", "fewer leaves"),
        (lambda body: body[:-4], "fewer leaves"),
        (lambda body: b"x" * 40, "not zstd"),
        (lambda body: forging.compressed([b"x" * 70_000]), "longer than"),
        (None, "missing"),
    ],
)
def test_a_damaged_log_is_exported_and_its_tree_stops(forge, tmp_path, harm, word):
    store = forged_store(forge)
    number = [n for n, (key, _, _) in enumerate(store.puts) if key.startswith("v1/events/") and "aaaaaaaa" in key][1]
    key, body, at = store.puts[number]
    if harm is None:
        del store.puts[number]
    else:
        store.puts[number] = (key, harm(body), at)
    report = export(store, tmp_path / "copy", quiet)
    assert any("20261124T221000000000-aaaaaaaa" in one and word in one for one in report.problems), report.problems
    codes = {one.code for one in verify(str(tmp_path / "copy"), forge.policy(tmp_path / "p.yaml"), jobs=1).findings}
    assert "tile_mismatch" in codes


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 65_537])
def test_tiles_give_the_root(tmp_path, size):
    writer = TileWriter(tmp_path)
    leaves = [str(number).encode() for number in range(size)]
    for leaf in leaves:
        writer.add(leaf)
    writer.close()
    if size <= 512:
        forging.write_tree(tmp_path / "theirs", leaves, b"", "")
        for path in (tmp_path / "theirs" / "tile").rglob("*"):
            if path.is_file():
                assert (tmp_path / path.relative_to(tmp_path / "theirs")).read_bytes() == path.read_bytes()
    root = merkle.root_of([merkle.hash_leaf(one) for one in leaves])
    assert root_of_tiles(tmp_path, size) == root


def root_of_tiles(folder, size):
    hashes = []
    for at in range(0, size, 256):
        width = min(256, size - at)
        name = tile_name(at // 256) + ("" if width == 256 else f".p/{width}")
        raw = (folder / f"tile/0/{name}").read_bytes()
        hashes += [raw[n : n + 32] for n in range(0, len(raw), 32)]
    return merkle.root_of(hashes)


def test_names_of_tiles():
    assert [tile_name(n) for n in (0, 999, 1000, 1_234_067)] == ["000", "999", "x001/000", "x001/x234/067"]


def test_an_export_reads_like_the_bucket(forge, tmp_path):
    store = forged_store(forge)
    export(store, tmp_path / "copy", quiet)
    copy = ExportedVersions(tmp_path / "copy")
    for prefix, after in (("v1/events/", ""), ("v1/", "v1/log/"), ("v1/events/", "v1/events/dt=2026-11-25"), ("w", "")):
        assert [(one.key, one.is_latest, one.size_bytes) for one in copy.versions(prefix, after)] == [
            (one.key, one.is_latest, one.size_bytes) for one in store.versions(prefix, after)
        ]
    key = next(firsts(copy, "v1/events/"))
    (tmp_path / "copy" / "objects" / key.key).write_bytes(b"changed")
    with pytest.raises(EvidenceError, match="changed after it was exported"):
        fetch(copy, key)


def test_an_inventory_cannot_point_outside(tmp_path):
    store = FakeVersions()
    store.put("v1/x.note", b"x")
    export(store, tmp_path / "copy", quiet)
    path = tmp_path / "copy" / "inventory.jsonl"
    path.write_text(path.read_text().replace("objects/v1/x.note", "../secret"))
    (tmp_path / "secret").write_text("x")
    copy = ExportedVersions(tmp_path / "copy")
    with pytest.raises(EvidenceError, match="not inside"):
        fetch(copy, next(copy.versions("")))
    with pytest.raises(EvidenceError, match="not a directory that"):
        ExportedVersions(tmp_path)


def test_a_name_that_could_be_a_folder_is_never_a_file():
    assert place_of("v1/x.note", 0) == "objects/v1/x.note"
    assert place_of("v1/x.note", 3) == "versions/v1/x.note/3"
    assert place_of("v1/x.note/y.note", 0).startswith("objects/@/")
    assert place_of("v1/x", 0).startswith("objects/@/")


def test_a_tree_is_as_large_as_the_newest_checkpoint_says(tmp_path):
    recorded = Recorded.at(tmp_path)
    log = recorded.log()
    log.exchange("signed", NOON)
    log.checkpoint()
    log.exchange("not yet", NOON)
    log.seal(checkpoint=False)
    log.exchange("nor this", NOON)
    log.seal(checkpoint=False)
    silent = recorded.log("gw-0-1", salt="bbbbbbbb")
    silent.seal(checkpoint=False)
    report = export(recorded.store, tmp_path / "copy", quiet)
    assert report.leaves == 3
    folder = tmp_path / "copy" / "logs" / log.replica / log.epoch
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "checkpoint",
        "log.vkey",
        "tile/0/000.p/3",
        "tile/entries/000.p/3",
    ]
    assert report.problems == (f"gw-0-1/{silent.epoch}: leaves without any checkpoint",)


def test_a_log_without_birth_record_has_no_key(tmp_path):
    recorded = Recorded.at(tmp_path)
    log = recorded.log()
    log.seal()
    recorded.store.puts = [one for one in recorded.store.puts if not one[0].startswith("v1/roster/")]
    report = export(recorded.store, tmp_path / "copy", quiet)
    assert report.problems == (f"{log.replica}/{log.epoch}: no birth record that says the log's key",)


@pytest.mark.parametrize("hours", [1, 26])
def test_a_clock_that_was_put_back_mixes_up_keys_and_not_trees(tmp_path, hours):
    """The later records have the earlier hour in their key, so they are listed, and copied, first."""
    gateway = Recorded.at(tmp_path)
    log = gateway.log()
    log.exchange("before", NOON)
    log.seal()
    for name, back in (("after", timedelta(hours=hours)), ("later", timedelta(hours=hours - 3))):
        log.exchange(name, NOON - back)
        log.seal()
    keys = [one.key for one in gateway.store.versions("v1/events/")]
    assert len(keys) == 3
    assert "-0000000000000002-" not in keys[0], "the first one in the listing is not the first of the log"
    report = export(gateway.store, tmp_path / "copy", quiet)
    assert (report.problems, report.leaves) == ((), len(log.leaves))
    key = base64.b64encode(gateway.signer.public_key).decode()
    policy = {
        "schema": "affidavit/policy/v1",
        "gateway": GATEWAY,
        "log_keys": [key],
        "retention_days": 1,
        "heartbeat_seconds": 60,
    }
    (tmp_path / "policy.yaml").write_text(json.dumps(policy))
    found = {one.code for one in verify(str(tmp_path / "copy"), tmp_path / "policy.yaml", jobs=1).findings}
    assert "clock_backwards" in found
    assert not found & {"tile_mismatch", "sequence_gap", "root_mismatch", "checkpoint_stale"}
    name = LogName.of_origin(log.origin)
    assert name is not None
    assert [one.first for one, _ in objects_of(gateway.store, name)] == [0, 3, 5]


def test_a_hole_ends_the_tree_whatever_follows(tmp_path):
    gateway = Recorded.at(tmp_path)
    log = gateway.log()
    for number in range(3):
        log.exchange(str(number), NOON)
        log.seal()
    keys = [one.key for one in gateway.store.versions("v1/events/")]
    gateway.store.puts = [one for one in gateway.store.puts if one[0] != keys[1]]
    report = export(gateway.store, tmp_path / "copy", quiet)
    assert report.leaves == 3
    assert report.problems == (f"gw-0-0/{log.epoch}: the tree ends at leaf 3: leaf 3 is missing",)
