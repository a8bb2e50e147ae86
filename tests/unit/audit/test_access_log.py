from __future__ import annotations

import json
import os
import stat
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import zstandard

from ext_proc.audit import access_log
from ext_proc.audit.access_log import AccessLogTail
from ext_proc.errors import IntegrityError

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.jsonl"


def tail(path):
    return AccessLogTail(path, path.parent, "gw-0")


def body(part):
    return zstandard.ZstdDecompressor().decompressobj().decompress(part.sealed.body)


def write(path, text):
    with path.open("ab") as file:
        file.write(text)


def shipped(tailing, now=NOON):
    """Ship what there is; the bytes by generation."""
    found = {}
    while (part := tailing.next_part(now)) is not None:
        held = found.setdefault(part.generation, b"")
        found[part.generation] = held + body(part)
        tailing.shipped(part)
    return list(found.values())


def age(path, seconds=3600):
    at = NOON.timestamp() - seconds
    os.utime(path, (at, at))


def test_no_file_is_nothing_to_ship(path):
    assert tail(path).next_part(NOON) is None


def test_whole_lines_are_shipped_and_half_ones_wait(path):
    write(path, b"one\ntwo\nthr")
    tailing = tail(path)
    part = tailing.next_part(NOON)
    assert (body(part), part.first_offset, part.last_offset, part.lines) == (b"one\ntwo\n", 0, 8, 2)
    assert part.sealed.key.startswith(f"v1/access/replica=gw-0/{part.generation}/0000000000000000-0000000000000008-")
    tailing.shipped(part)
    assert tailing.next_part(NOON) is None
    write(path, b"ee\n")
    assert shipped(tailing) == [b"three\n"]


def test_a_restart_goes_on_where_the_cursor_stands(path):
    write(path, b"one\n")
    first = tail(path)
    part = first.next_part(NOON)
    first.shipped(part)
    write(path, b"two\n")
    later = tail(path).next_part(NOON + timedelta(hours=1))
    assert (later.generation, later.first_offset, body(later)) == (part.generation, 4, b"two\n")


def test_a_crash_before_the_cursor_moved_ships_the_same_part_again(path):
    """Though more was written meanwhile: other bytes of the same place would be a second object for it."""
    write(path, b"one\n")
    part = tail(path).next_part(NOON)
    write(path, b"two\n")
    restarted = tail(path)
    again = restarted.next_part(NOON + timedelta(seconds=9))
    assert again == part
    restarted.shipped(again)
    assert shipped(restarted) == [b"two\n"]


def test_a_part_has_a_limit(path, monkeypatch):
    monkeypatch.setattr(access_log, "PART_MAX_BYTES", 10)
    write(path, b"one two\nthree\nfour\n")
    tailing = tail(path)
    part = tailing.next_part(NOON)
    assert body(part) == b"one two\n"
    tailing.shipped(part)
    assert shipped(tailing) == [b"three\nfour\n"]
    write(path, b"a line that is too long\n")
    with pytest.raises(IntegrityError):
        tailing.next_part(NOON)


def test_a_file_that_was_cut_is_another_generation(path):
    write(path, b"one\ntwo\n")
    tailing = tail(path)
    assert shipped(tailing) == [b"one\ntwo\n"]
    os.truncate(path, 0)
    write(path, b"new\n")
    part = tailing.next_part(NOON + timedelta(minutes=1))
    assert (part.first_offset, body(part)) == (0, b"new\n")


def test_a_file_that_was_cut_and_grew_again_is_known_by_its_beginning(path):
    write(path, b"one\ntwo\n")
    tailing = tail(path)
    shipped(tailing)
    os.truncate(path, 0)
    write(path, b"another beginning, and longer\n")
    part = tailing.next_part(NOON)
    assert (part.first_offset, body(part)) == (0, b"another beginning, and longer\n")


def test_a_new_file_with_an_old_inode_number_is_no_continuation(path):
    write(path, b"one\n")
    tailing = tail(path)
    shipped(tailing)
    cursor = path.parent / "access-cursor.json"
    path.unlink()
    write(path, b"first line of the next file\n")
    told = json.loads(cursor.read_bytes())
    for one in told.values():
        one["inode"] = path.stat().st_ino  # as file systems do: the number of the file that went is free
    cursor.write_text(json.dumps(told))
    part = tail(path).next_part(NOON)
    assert (part.first_offset, body(part)) == (0, b"first line of the next file\n")


def test_a_file_that_vanished_is_forgotten(path):
    write(path, b"one\n")
    tailing = tail(path)
    shipped(tailing)
    path.unlink()
    assert tailing.next_part(NOON) is None
    assert json.loads((path.parent / "access-cursor.json").read_bytes()) == {}


def test_only_a_large_file_is_put_aside(path, monkeypatch):
    write(path, b"one\n")
    tailing = tail(path)
    assert not tailing.rotate_if_large()
    monkeypatch.setattr(access_log, "ROTATE_BYTES", 4)
    assert tailing.rotate_if_large()
    assert path.read_bytes() == b""


def rotated(path, monkeypatch):
    tailing = tail(path)
    shipped(tailing)
    monkeypatch.setattr(access_log, "ROTATE_BYTES", 1)
    assert tailing.rotate_if_large()
    monkeypatch.setattr(access_log, "ROTATE_BYTES", 1 << 30)
    return tailing, next(path.parent.glob("access-*.jsonl"))


def test_a_file_that_was_put_aside_stays_until_envoy_writes_another(path, monkeypatch):
    """It still writes into the old one: whoever removed it would lose every line from then on."""
    write(path, b"one\n")
    tailing, aside = rotated(path, monkeypatch)
    age(aside)
    assert tailing.next_part(NOON) is None
    assert aside.exists()
    assert tailing.rotate_if_large(), "Envoy did not listen: it must be asked again"
    write(aside, b"two\n")
    assert shipped(tailing) == [b"two\n"]
    write(path, b"three\n")
    assert not tailing.rotate_if_large()
    age(aside, seconds=5)
    shipped(tailing)
    assert aside.exists(), "its last buffer may still be on its way"
    age(aside)
    assert shipped(tailing) == []
    assert not aside.exists()


def test_the_old_file_is_shipped_before_the_new_one(path, monkeypatch):
    write(path, b"one\n")
    tailing, aside = rotated(path, monkeypatch)
    write(aside, b"two\n")
    write(path, b"three\n")
    assert shipped(tailing) == [b"two\n", b"three\n"]


def test_half_a_line_at_the_end_of_an_old_file_is_shipped_as_it_is(path, monkeypatch):
    """Envoy was killed in the middle of it. What is there is evidence; nobody will write the rest."""
    write(path, b"one\n")
    tailing, aside = rotated(path, monkeypatch)
    write(aside, b"hal")
    write(path, b"two\n")
    assert shipped(tailing) == [b"two\n"]
    age(aside)
    assert shipped(tailing) == [b"hal"]
    assert shipped(tailing) == []
    assert not aside.exists()


def test_half_a_line_that_was_promised_is_shipped_the_same_again(path, monkeypatch):
    write(path, b"one\n")
    tailing, aside = rotated(path, monkeypatch)
    write(aside, b"hal")
    write(path, b"two\n")
    shipped(tailing)
    age(aside)
    part = tailing.next_part(NOON)
    write(aside, b"f\n")  # somebody wrote it to its end after all
    again = tail(path)
    assert again.next_part(NOON) == part
    again.shipped(part)
    assert shipped(again) == [b"f\n"]


def test_a_restart_with_files_that_were_put_aside_and_no_cursor(path):
    write(path.parent / "access-7.jsonl", b"older\n")
    age(path.parent / "access-7.jsonl")
    write(path.parent / "access-3.jsonl", b"old\n")
    age(path.parent / "access-3.jsonl", seconds=1000)
    write(path, b"new\n")
    assert shipped(tail(path)) == [b"older\n", b"old\n", b"new\n"]


def test_names_go_on_where_a_clock_was_set_back(path, monkeypatch):
    write(path, b"one\n")
    tailing, aside = rotated(path, monkeypatch)
    write(aside, b"two\n")
    write(path, b"three\n")
    assert shipped(tailing, NOON - timedelta(days=1)) == [b"two\n", b"three\n"]


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"a": 1}', '{"a": {"unknown": 1}}'])
def test_a_cursor_that_is_none_is_put_aside(path, text):
    """Evidence goes on: what was shipped is shipped again, under another name, and nothing is left out."""
    write(path, b"one\n")
    (path.parent / "access-cursor.json").write_text(text)
    assert shipped(tail(path)) == [b"one\n"]
    assert (path.parent / "access-cursor.damaged").read_text() == text


# Space that is set apart ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", place], check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here (`make cluster` fills a volume, too)")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(folder):
    """Use up the space, to the last byte."""
    with suppress(OSError), (folder / "somebody-elses").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_lines_of_a_full_disk_are_written(small_disk, monkeypatch):
    monkeypatch.setattr(access_log, "RESERVE_BYTES", 256 * 1024)
    path = small_disk / "access.jsonl"
    access_log.prepare(path)
    assert path.stat().st_size == 0
    write(path, b"before\n")
    access_log.prepare(path)
    fill(small_disk)
    lines = b"a line of a refusal\n" * 5000
    write(path, lines)
    assert path.read_bytes() == b"before\n" + lines


def test_without_it_they_are_not(small_disk):
    """Or the test above would show nothing."""
    path = small_disk / "access.jsonl"
    write(path, b"before\n")
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        write(path, b"a line of a refusal\n" * 5000)


def test_who_may_make_files_may_write_this_one(tmp_path):
    """Envoy runs as another user, of the group that the folder belongs to."""
    folder = tmp_path / "state"
    for mode, expected in ((0o2770, 0o664), (0o750, 0o644), (0o777, 0o666)):
        folder.mkdir()
        folder.chmod(mode)
        path = folder / "access.jsonl"
        access_log.prepare(path)
        assert stat.S_IMODE(path.stat().st_mode) == expected
        path.unlink()
        folder.rmdir()


def test_its_folder_is_made_as_the_one_above_it_is(tmp_path):
    """Envoy needs this folder and no other of ours."""
    for mode, expected in ((0o2770, 0o664), (0o750, 0o644), (0o777, 0o666)):
        state = tmp_path / f"{mode:o}"
        state.mkdir()
        state.chmod(mode)
        path = state / "access" / "access.jsonl"
        access_log.prepare(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == mode
        assert stat.S_IMODE(path.stat().st_mode) == expected
        path.parent.chmod(0o700)
        access_log.prepare(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700  # an operator's own


def test_what_an_earlier_version_left_is_shipped_and_followed_until_the_new_file_has_lines(tmp_path):
    old, path = tmp_path / "access.jsonl", tmp_path / "access" / "access.jsonl"
    aside = tmp_path / "access-7.jsonl"
    write(aside, b"zero\n")
    write(old, b"one\n")
    age(aside), age(old)
    before = AccessLogTail(old, tmp_path, "gw-0")
    assert shipped(before) == [b"zero\n", b"one\n"]
    write(old, b"two\n")  # an Envoy that was not started anew
    access_log.prepare(path)
    now = AccessLogTail(path, tmp_path, "gw-0")
    assert shipped(now) == [b"two\n"]
    assert now.rotate_if_large()  # asked to reopen its logs, in vain
    write(old, b"three\n")
    age(old)
    assert shipped(now) == [b"three\n"] and old.exists()
    write(path, b"four\n")
    assert shipped(now) == [b"four\n"]
    assert shipped(now) == [] and not old.exists() and not aside.exists()


def planted(path, what, target):
    """By whoever got into Envoy: the folder is theirs to write in."""
    match what:
        case "link":
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()


@pytest.mark.parametrize("name", ["access-7.jsonl", "access-x.jsonl", "access.jsonl"])
@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_neither_read_nor_waited_for(tmp_path, name, what):
    """A link leads to the gate's own keys, which nobody could ever take out of the store again; a pipe never ends."""
    key = tmp_path / "key"
    key.write_bytes(b"the key-encryption key\n")
    age(key)
    folder = tmp_path / "access"
    folder.mkdir()
    planted(folder / name, what, key)
    path = folder / "access.jsonl"
    access_log.prepare(path)
    tailing = AccessLogTail(path, tmp_path, "gw-0")
    if name != path.name:
        write(path, b"one\n")
    assert shipped(tailing) == ([] if name == path.name else [b"one\n"])
    tailing.rotate_if_large()
    assert key.read_bytes() == b"the key-encryption key\n"
    assert shipped(tailing) == []
    assert (folder / name).is_symlink() or (folder / name).exists()


def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(tmp_path, monkeypatch):
    key, path = tmp_path / "key", tmp_path / "access.jsonl"
    key.write_bytes(b"the key-encryption key\n")
    write(path, b"one\n")
    look = access_log._stat

    def changed(one):
        found = look(one)
        if one == path and not one.is_symlink():
            one.unlink()
            one.symlink_to(key)
        return found

    monkeypatch.setattr(access_log, "_stat", changed)
    assert tail(path).next_part(NOON) is None


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_a_folder_that_is_none_is_refused(tmp_path, what):
    """A link in its place would lead Envoy to all of the evidence."""
    planted(tmp_path / "access", what, tmp_path)
    with pytest.raises(NotADirectoryError):
        access_log.prepare(tmp_path / "access" / "access.jsonl")


def test_a_folder_that_was_not_finished_is_made_again(tmp_path, monkeypatch):
    """Left as it was made, Envoy could never write there."""
    tmp_path.chmod(0o770)
    path = tmp_path / "access" / "access.jsonl"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.chmod", killed)
    with pytest.raises(KeyboardInterrupt):
        access_log.prepare(path)
    assert not path.parent.exists()
    monkeypatch.undo()
    access_log.prepare(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o770


def test_the_folder_of_somebody_else_is_left_to_them(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    tmp_path.chmod(0o755)
    if os.getuid() == 0:
        os.chown(tmp_path, 4712, -1)
    access_log.prepare(tmp_path / "access.jsonl")
    assert not (tmp_path / "access.jsonl").exists()
    assert not tail(tmp_path / "access.jsonl").rotate_if_large()


def test_a_file_that_is_there_stays_as_it_is(path):
    write(path, b"one\n")
    before = path.stat()
    access_log.prepare(path)
    assert (path.read_bytes(), path.stat().st_mode, path.stat().st_ino) == (b"one\n", before.st_mode, before.st_ino)
