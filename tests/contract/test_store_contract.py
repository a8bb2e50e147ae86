"""One suite for `audit.store.Store`: the fakes (in memory, in a folder), and `S3Store` before a real SeaweedFS with Object Lock."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import Store, StoreRefused, StoreUnavailable
from ext_proc.demo.seaweed import Seaweed, start_seaweed
from tests.fakes.folder_store import FolderStore
from tests.fakes.store import FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAYS = 30
BODY = b"one leaf a line\n" * 100


@dataclass(frozen=True, slots=True)
class Setting:
    """A store, someone with write permission beside it, and the same store when it refuses or is not there."""

    store: Store
    write_over: Callable[[str, bytes], Any]
    refusing: Store | None
    """None: whoever can reach it may do everything."""
    absent: Store


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", DAYS)
    yield server
    server.program.stop()


@pytest.fixture(params=["fake", "folder", "seaweedfs"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Setting:
    if request.param == "fake":
        store = FakeStore(retention=timedelta(days=DAYS))
        return Setting(store, store.write_over, FakeStore(is_permitted=False), FakeStore(is_open=False))
    if request.param == "folder":  # which has no versions: nobody can write a later one
        kept = FolderStore(tmp_path, timedelta(days=DAYS))
        return Setting(kept, lambda key, body: None, None, FolderStore(Path("/dev/null/x")))
    server: Seaweed = request.getfixturevalue("seaweed")
    prefix = f"{tmp_path.name}/"
    credentials = tmp_path / "credentials"
    template = "[default]\naws_access_key_id={}\naws_secret_access_key={}\n"
    credentials.write_text(template.format(server.access_key, server.secret_key))
    wrong = tmp_path / "wrong"
    wrong.write_text(template.format(server.access_key, "not the secret"))

    def write_over(key: str, body: bytes) -> None:
        server.client().put_object(Bucket=server.bucket, Key=prefix + key, Body=body)

    def store_at(endpoint: str, file: Path) -> S3Store:
        return S3Store(server.bucket, prefix, server.region, endpoint, file)

    return Setting(
        store_at(server.endpoint, credentials),
        write_over,
        store_at(server.endpoint, wrong),
        store_at("http://127.0.0.1:9", credentials),
    )


def put(store: Store, key: str, body: bytes = BODY) -> str:
    sha256 = hashlib.sha256(body).hexdigest()
    store.put(key, body, sha256)
    return sha256


def test_what_was_put_is_read_back_with_its_lock(setting: Setting):
    before = datetime.now(UTC)
    sha256 = put(setting.store, "a/b=c/one.zst")
    stored = setting.store.read_back("a/b=c/one.zst")
    assert stored is not None
    assert (stored.sha256, stored.size_bytes) == (sha256, len(BODY))
    assert stored.lock_mode == "COMPLIANCE"
    assert stored.retain_until is not None
    assert before + timedelta(days=DAYS, hours=-1) < stored.retain_until < before + timedelta(days=DAYS, hours=1)
    assert stored.version
    assert setting.store.fetch("a/b=c/one.zst") == BODY


def test_put_creates_and_never_overwrites(setting: Setting):
    sha256 = put(setting.store, "one")
    put(setting.store, "one")
    put(setting.store, "one", b"other bytes")
    stored = setting.store.read_back("one")
    assert stored is not None and stored.sha256 == sha256
    assert setting.store.fetch("one") == BODY


def test_of_many_who_put_at_once_one_wins_and_nobody_fails(setting: Setting):
    bodies = [b"writer %d" % n for n in range(6)]
    failed: list[Exception] = []

    def write(body: bytes) -> None:
        try:
            put(setting.store, "contended", body)
        except StoreUnavailable as error:  # allowed: the outcome is not known, the shipper looks and tries again
            failed.append(error)

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) < len(bodies)
    first = setting.store.fetch("contended")
    assert first in bodies
    for body in bodies:
        put(setting.store, "contended", body)
    assert setting.store.fetch("contended") == first


def test_a_later_version_changes_nothing_for_us(setting: Setting):
    sha256 = put(setting.store, "one")
    before = setting.store.read_back("one")
    for _ in range(3):
        setting.write_over("one", b"nothing happened")
    after = setting.store.read_back("one")
    assert after == before
    assert after is not None and after.sha256 == sha256
    assert setting.store.fetch("one") == BODY
    assert list(setting.store.keys("one")) == ["one"]


def test_what_is_not_there_is_none_and_cannot_be_fetched(setting: Setting):
    put(setting.store, "one-and-more")
    assert setting.store.read_back("one") is None
    with pytest.raises(StoreUnavailable):
        setting.store.fetch("one")


def test_keys_come_in_order_below_their_prefix(setting: Setting):
    names = ["v1/b/2", "v1/b/10", "v1/a/1", "v2/a/1", "v1/b=x/é".replace("é", "e"), "v1/b/1"]
    for name in names:
        put(setting.store, name, name.encode())
    assert list(setting.store.keys("v1/")) == sorted(name for name in names if name.startswith("v1/"))
    assert list(setting.store.keys("v1/b/1")) == ["v1/b/1", "v1/b/10"]
    assert list(setting.store.keys("nothing/")) == []


def test_bytes_that_are_not_what_the_digest_says_are_not_kept(setting: Setting):
    with pytest.raises((StoreRefused, StoreUnavailable)):
        setting.store.put("spoilt", b"spoilt on the way", hashlib.sha256(b"as it was").hexdigest())
    assert setting.store.read_back("spoilt") is None


def test_a_large_object(setting: Setting):
    body = bytes(range(256)) * 4 * 1024 * 9  # larger than any default for multipart uploads
    sha256 = put(setting.store, "large", body)
    stored = setting.store.read_back("large")
    assert stored is not None
    assert (stored.sha256, stored.lock_mode) == (sha256, "COMPLIANCE")


@pytest.mark.parametrize("what", ["put", "read_back", "fetch", "keys"])
def test_a_refusal_and_silence_are_told_apart(setting: Setting, what: str):
    def ask(store: Store) -> Any:
        match what:
            case "put":
                return put(store, "one")
            case "keys":
                return list(store.keys(""))
            case _:
                return getattr(store, what)("one")

    if setting.refusing is not None:
        with pytest.raises(StoreRefused):
            ask(setting.refusing)
    with pytest.raises(StoreUnavailable):
        ask(setting.absent)


def test_it_may_be_used_from_several_threads(setting: Setting):
    found: list[bytes] = []

    def work(number: int) -> None:
        put(setting.store, f"thread/{number}", b"%d" % number)
        found.append(setting.store.fetch(f"thread/{number}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [b"%d" % n for n in range(8)]
