"""The key ring: what it seals opens only with its keys, and a destroyed key is used no longer than it says."""

from __future__ import annotations

import base64
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.audit.keys import KEPT_SECONDS, NOBODY, KeyRing, Shredded, create_key_files, read_key
from ext_proc.audit.registry import SubjectKey
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError
from ext_proc.model import Identity, Payload, Receipt
from tests.fakes.registry import FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

from datetime import UTC, datetime

REF = "hmac-sha256:" + "ab" * 32
NOW = datetime(2026, 11, 25, tzinfo=UTC)
PAYLOADS = [Payload("request.raw", b"asked", "text/plain"), Payload("request.forwarded", b"sent on", "text/plain")]
REQUESTED, COMPLETED = Receipt("gw/command/1", 4, ""), Receipt("gw/command/1", 5, "")
ADA = Identity("https://idp", "ada", "oidc", tenant="acme")


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ring(registry: FakeRegistry, ticks: Ticks | None = None, kek: bytes = b"k" * 32) -> KeyRing:
    return KeyRing(kek, b"p" * 32, registry, ticks or Ticks())


def destroy(registry: FakeRegistry, *, is_finished: bool = True) -> None:
    generations = registry.destroy(REF, REQUESTED, NOW)
    assert isinstance(generations, tuple) and generations
    if is_finished:
        registry.finish(REF, generations, COMPLETED)


def test_there_and_back() -> None:
    registry = FakeRegistry()
    told, sealed = ring(registry).encrypt(REF, PAYLOADS, "log|exchange")
    other = ring(registry)
    assert [other.decrypt(one, ct, "log|exchange") for one, ct in zip(told, sealed, strict=True)] == [
        b"asked",
        b"sent on",
    ]
    assert {one["key"] for one in told} == {f"subject:{REF}#1"}
    assert ring(registry).encrypt(REF, [], "x") == ([], [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "request.forwarded"}, "does not decrypt"),
        ({"ciphertext_sha256": "00" * 32}, "not the leaf's"),
        ({"wrapped_data_key": base64.b64encode(b"x" * 60).decode()}, "does not decrypt"),
        ({"key": f"subject:{REF}"}, "names no subject key"),
        ({"key": f"subject:{REF}#0"}, "names no subject key"),
        ({"key": f"subject:{REF}#2"}, "no erasure explains it"),
        ({"key": "subject:other#1"}, "no erasure explains it"),
    ],
)
def test_what_is_not_the_leafs(change: dict[str, Any], words: str) -> None:
    keys = ring(FakeRegistry())
    told, sealed = keys.encrypt(REF, PAYLOADS, "bound")
    with pytest.raises(IntegrityError, match=words):
        keys.decrypt({**told[0], **change}, sealed[0], "bound")
    with pytest.raises(IntegrityError, match="does not decrypt"):
        keys.decrypt(told[0], sealed[0], "bound elsewhere")


def test_a_key_moved_to_another_row_opens_nothing() -> None:
    registry = FakeRegistry()
    ring(registry).encrypt(REF, PAYLOADS, "bound")
    registry.rows["other", 1] = registry.rows[REF, 1]
    registry.rows[REF, 2] = replace(registry.rows[REF, 1], generation=2)
    for ref in ("other", REF):
        with pytest.raises(AuditUnavailable, match="key_encryption_key"):
            ring(registry).encrypt(ref, PAYLOADS, "bound")


def test_another_key_encryption_key() -> None:
    registry = FakeRegistry()
    ring(registry).encrypt(REF, PAYLOADS, "bound")
    with pytest.raises(AuditUnavailable, match="key_encryption_key"):
        ring(registry, kek=b"other" * 6 + b"!!").encrypt(REF, PAYLOADS, "bound")


def test_shredded_is_told_from_unexplained() -> None:
    registry = FakeRegistry()
    keys = ring(registry)
    told, sealed = keys.encrypt(REF, PAYLOADS, "bound")
    destroy(registry, is_finished=False)
    with pytest.raises(Shredded) as caught:  # at once: reading never goes by a kept key
        keys.decrypt(told[0], sealed[0], "bound")
    assert (caught.value.sequence, caught.value.is_complete) == (4, False)
    registry.finish(REF, (1,), COMPLETED)
    with pytest.raises(Shredded, match="shredded by record 5 of gw/command/1") as caught:
        keys.decrypt(told[0], sealed[0], "bound")
    assert (caught.value.origin, caught.value.sequence, caught.value.is_complete) == ("gw/command/1", 5, True)
    registry.rows[REF, 1] = SubjectKey(1, None)  # somebody blanked it
    with pytest.raises(IntegrityError, match="no erasure explains it"):
        keys.decrypt(told[0], sealed[0], "bound")


def test_after_an_erasure_the_next_generation_begins() -> None:
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)
    old, old_sealed = keys.encrypt(REF, PAYLOADS, "bound")
    destroy(registry)
    ticks.now += KEPT_SECONDS
    new, new_sealed = keys.encrypt(REF, PAYLOADS, "bound")
    assert new[0]["key"] == f"subject:{REF}#2"
    assert keys.decrypt(new[0], new_sealed[0], "bound") == b"asked"
    with pytest.raises(Shredded):
        keys.decrypt(old[0], old_sealed[0], "bound")
    assert registry.rows[REF, 1].wrapped is None


def test_a_destroyed_key_is_used_no_longer_than_it_says() -> None:
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)
    keys.encrypt(REF, PAYLOADS, "bound")
    destroy(registry)
    ticks.now += KEPT_SECONDS - 0.001
    told, sealed = keys.encrypt(REF, PAYLOADS, "bound")
    assert told[0]["key"].endswith("#1")  # within the time it says; nobody will read it
    with pytest.raises(Shredded):
        keys.decrypt(told[0], sealed[0], "bound")
    ticks.now += 0.001
    assert keys.encrypt(REF, PAYLOADS, "bound")[0][0]["key"].endswith("#2")


def test_the_time_counts_from_before_the_question() -> None:
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)

    def slowly(name: str) -> None:
        if name == "erasure_count":
            ticks.now += 3

    registry.before = slowly
    keys.encrypt(REF, PAYLOADS, "bound")
    asked = registry.asked
    ticks.now += KEPT_SECONDS - 3
    keys.encrypt(REF, PAYLOADS, "bound")
    assert registry.asked > asked


def test_a_key_fetched_while_it_was_destroyed_is_not_kept() -> None:
    """One thread fetched it, another saw the erasure and forgot all keys, then the first one puts its away."""
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)
    keys.encrypt(REF, PAYLOADS, "bound")
    keys._kept.clear()
    fetched, may_go_on = Event(), Event()
    unwrap = keys._unwrap

    def slow_unwrap(*arguments: Any) -> Any:
        fetched.set()
        assert may_go_on.wait(10)
        return unwrap(*arguments)

    keys._unwrap = slow_unwrap  # type: ignore[method-assign]
    thread = Thread(target=keys.encrypt, args=(REF, PAYLOADS, "bound"))
    thread.start()
    assert fetched.wait(10)
    destroy(registry)
    keys.refresh()
    may_go_on.set()
    thread.join(10)
    keys._unwrap = unwrap  # type: ignore[method-assign]
    assert keys.encrypt(REF, PAYLOADS, "bound")[0][0]["key"].endswith("#2")


def test_the_key_of_tokens_goes_with_the_subjects() -> None:
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)
    first = keys.token_key(REF)
    assert len(first) == 32 and first != keys.token_key("hmac-sha256:" + "cd" * 32)
    assert ring(registry).token_key(REF) == first  # another replica's is the same
    row = registry.rows[REF, 1]
    assert row.wrapped is not None
    raw = keys._unwrap(REF, row, row.wrapped)
    assert len(raw) == 32 and raw != first
    destroy(registry)
    ticks.now += KEPT_SECONDS
    assert keys.token_key(REF) not in (first, raw)
    assert ring(registry).token_key(REF) == keys.token_key(REF)


def test_calls_of_known_people_do_not_ask_the_registry() -> None:
    registry, ticks = FakeRegistry(), Ticks()
    keys = ring(registry, ticks)
    assert not keys.is_prepared(REF)
    keys.prepare(REF)
    assert keys.is_prepared(REF) and not keys.is_prepared("other")
    registry.is_down = True
    ticks.now += KEPT_SECONDS - 1
    keys.encrypt(REF, PAYLOADS, "bound")
    ticks.now += 1
    assert not keys.is_prepared(REF)
    with pytest.raises(AuditUnavailable, match="key_registry"):  # not known whether it still exists: fail closed
        keys.encrypt(REF, PAYLOADS, "bound")
    registry.is_down = False
    keys.refresh()
    registry.is_down = True
    keys.encrypt(REF, PAYLOADS, "bound")


def test_a_registry_that_keeps_nothing_is_given_up() -> None:
    registry = FakeRegistry()
    registry.add = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(AuditUnavailable, match="key_registry"):
        ring(registry).encrypt(REF, PAYLOADS, "bound")


def test_references() -> None:
    keys = ring(FakeRegistry())
    assert keys.subject_reference(None) == NOBODY
    assert keys.subject_reference(ADA) == keys.person_reference("https://idp", "acme", "ada")
    assert keys.subject_reference(replace(ADA, tenant=None)) == keys.person_reference("https://idp", None, "ada")
    assert keys.subject_reference(ADA) != keys.subject_reference(replace(ADA, tenant=None))
    assert keys.subject_reference(ADA) != KeyRing(b"k" * 32, b"q" * 32, FakeRegistry()).subject_reference(ADA)
    assert keys.reference("a", "b") != keys.reference("ab")


def test_from_files_and_from_url_are_one_registry(tmp_path: Path) -> None:
    files = create_key_files(tmp_path, "kek", "pepper")
    first = KeyRing.from_files(*files, tmp_path / "deep" / "registry.sqlite")
    second = KeyRing.from_url(*files, f"sqlite:///{tmp_path}/deep/registry.sqlite")
    told, sealed = first.encrypt(REF, PAYLOADS, "bound")
    assert second.decrypt(told[0], sealed[0], "bound") == b"asked"
    assert second.encrypt(REF, PAYLOADS, "bound")[0][0]["key"] == told[0]["key"]


def test_key_files(tmp_path: Path) -> None:
    [path] = create_key_files(tmp_path, "kek")
    assert len(read_key(path)) == 32 and path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_key_files(tmp_path, "kek")
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="32 bytes"):
        read_key(path)
    with pytest.raises(ConfigError, match="is not there; put your copy of it back, or for a new installation make it"):
        read_key(tmp_path / "nowhere")
