"""``affidavit show``: one exchange, its leaves, and its four payloads for someone who may use the keys.

Whoever reads payloads is put on record first (``access.read``): no record, no payload.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, cast

from ext_proc.audit.erasure import Order
from ext_proc.audit.keys import Shredded
from ext_proc.audit.seal import PACK_MAGIC
from ext_proc.audit.writer import binding_of
from ext_proc.errors import IntegrityError
from ext_proc.evidence import names
from ext_proc.evidence.erased import UNEXPLAINED, is_on_record
from ext_proc.evidence.events import SPOOL_BYTES, objects, parse_leaf, read_ahead, window
from ext_proc.evidence.versions import firsts
from ext_proc.record_kinds import BODY_ROLES, LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.versions import Version, VersionedStore

_KNOWN: Final = (*BODY_ROLES, PayloadRole.POLICY_QUESTION)
_OF_KINDS: Final = ("inference.", LeafKind.APPROVAL_REQUESTED)
_ENTRY: Final = struct.Struct(">32sQ")


@dataclass(frozen=True, slots=True)
class Located:
    """A leaf and the object that holds it."""

    key: str
    leaf: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload. ``body`` is None unless ``state`` is ``read``; ``why`` then says what became of it."""

    role: str
    state: Literal["read", "shredded", "missing", "damaged"]
    content_type: str
    body: bytes | None = None
    why: str = ""

    def __repr__(self) -> str:
        return f"Opened(role={str(self.role)!r}, state={self.state!r})"


def find(
    store: VersionedStore,
    exchange_id: str,
    progress: Callable[[int], None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Located]:
    """Every leaf about the exchange, also of those who read it.

    Args:
        store: the bucket.
        exchange_id: of the exchange.
        progress: is told how many leaves were read.
        since: reads nothing older; without it, the whole bucket is read.
        until: reads nothing newer.

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: an object is damaged: verify.
    """
    after, is_before = window(since, until)
    needle = json.dumps(exchange_id, ensure_ascii=False).encode()
    made: list[Located] = []
    count = 0
    for _, version, leaves in read_ahead(store, (one for one in objects(store, after) if is_before(one[0]))):
        for line in leaves:
            count += 1
            if needle in line and (leaf := parse_leaf(line, version.key)).get("exchange_id") == exchange_id:
                made.append(Located(version.key, leaf))
        progress(count)
    return made


@dataclass(frozen=True, slots=True)
class Link:
    """A tool call and an exchange that brought its result: one of them is the exchange that is shown."""

    call_ref: str
    called_in: str
    brought_by: str


def links(
    store: VersionedStore,
    located: Sequence[Located],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Link]:
    """What the exchange's tool calls and tool results have to do with other exchanges: the ids of calls join them.

    Args:
        store: the bucket.
        located: the exchange's leaves.
        since: reads nothing older; without it, the whole bucket is read.
        until: reads nothing newer.

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: an object is damaged: verify.
    """
    calls, results = _calls(located), _results(located)
    if not calls and not results:
        return []
    needles = [ref.encode() for ref in calls | results]
    after, is_before = window(since, until)
    others: list[Located] = []
    for _, version, leaves in read_ahead(store, (one for one in objects(store, after) if is_before(one[0]))):
        others += [
            Located(version.key, parse_leaf(line, version.key))
            for line in leaves
            if any(needle in line for needle in needles)
        ]
    mine = str(located[0].leaf.get("exchange_id"))
    made = [Link(ref, mine, by) for one in others for ref in calls & _results([one]) if (by := _of(one)) != mine]
    made += [Link(ref, by, mine) for one in others for ref in results & _calls([one]) if (by := _of(one)) != mine]
    return sorted(set(made), key=lambda link: (link.called_in, link.brought_by, link.call_ref))


def _of(located: Located) -> str:
    return str(located.leaf.get("exchange_id"))


def _calls(located: Sequence[Located]) -> set[str]:
    """References of the tool calls that are asked for."""
    told = [one.leaf.get("tool_call") for one in located if one.leaf.get("kind") == LeafKind.EFFECT_TOOL_CALL]
    return {ref for one in told if isinstance(one, dict) and isinstance(ref := one.get("call_ref"), str)}


def _results(located: Sequence[Located]) -> set[str]:
    """References of the tool calls whose results are brought."""
    told = [one.leaf.get("tool_results") for one in located if one.leaf.get("kind") == LeafKind.INFERENCE_INTENT]
    return {ref for refs in told if isinstance(refs, list) for ref in refs if isinstance(ref, str)}


def open_payloads(
    store: VersionedStore,
    keyring: KeyRing,
    journal: Journal,
    located: Sequence[Located],
    *,
    by: str,
    purpose: str,
    roles: Sequence[str] = BODY_ROLES,
) -> list[Opened]:
    """The exchange's payloads in clear, one for each role. That they are read is on record before they are.

    Args:
        store: the bucket.
        keyring: the keys.
        journal: where the reading is recorded.
        located: the exchange's leaves.
        by: who reads, as it may stand in a leaf for ever: a role or a ticket, not a person's name.
        purpose: why.
        roles: which payloads: the bodies, unless told otherwise.

    Raises:
        ConfigError: ``by`` or ``purpose`` cannot stand in a leaf.
        AuditUnavailable: the reading cannot be recorded, or the keys cannot be had. Nothing was read.
        EvidenceError: the store cannot be read.
    """
    Order(purpose, by)
    told: dict[str, list[tuple[Located, dict[str, Any]]]] = {}
    for one in located:
        if str(one.leaf.get("kind", "")).startswith(_OF_KINDS):
            for payload in _told(one):
                if payload["role"] in roles:
                    told.setdefault(payload["role"], []).append((one, payload))
    if not told:
        return []
    if PayloadRole.POLICY_QUESTION in told:  # asked again after people agreed: the question of the last decision
        told[PayloadRole.POLICY_QUESTION] = told[PayloadRole.POLICY_QUESTION][-1:]
    named = sorted(told, key=_KNOWN.index)
    exchange_id = located[0].leaf["exchange_id"]
    journal.note(LeafKind.ACCESS_READ, {"exchange_id": exchange_id, "roles": named, "by": by, "purpose": purpose})
    return [_joined([_opened(store, keyring, one, payload) for one, payload in told[role]]) for role in named]


def _joined(pieces: list[Opened]) -> Opened:
    """A body that streamed is in several leaves, in the order of the log; it can be read if each of them can."""
    unread = next((one for one in pieces if one.body is None), None)
    if len(pieces) == 1 or unread is not None:
        return unread or pieces[0]
    return replace(pieces[0], body=b"".join(one.body or b"" for one in pieces))


def _told(located: Located) -> list[dict[str, Any]]:
    """What a leaf says of its payloads, as far as it can be understood."""
    told = located.leaf.get("payloads")
    listed = told if isinstance(told, list) else []
    return [one for one in listed if isinstance(one, dict) and one.get("role") in _KNOWN]


def _opened(store: VersionedStore, keyring: KeyRing, located: Located, told: dict[str, Any]) -> Opened:
    role, kind = told["role"], str(told.get("content_type", ""))
    try:
        ciphertext = _ciphertext(store, located.key, told["ciphertext_sha256"])
        if ciphertext is None:
            return Opened(role, "missing", kind, why="no pack holds it: run `affidavit verify`")
        leaf = located.leaf
        body = keyring.decrypt(told, ciphertext, binding_of(leaf["origin"], leaf["exchange_id"]))
    except Shredded as error:
        if not is_on_record(store, error, told["key"]):
            return Opened(role, "damaged", kind, why=UNEXPLAINED.format(error.sequence, error.origin))
        is_complete = "" if error.is_complete else " (the erasure is not complete: run it again)"
        return Opened(role, "shredded", kind, why=f"{error.detail}{is_complete}")
    except IntegrityError as error:
        return Opened(role, "damaged", kind, why=error.detail)
    except (KeyError, TypeError, ValueError):
        return Opened(role, "damaged", kind, why="what the leaf says of it is not of the published form")
    return Opened(role, "read", kind, body)


def _ciphertext(store: VersionedStore, events_key: str, sha256: str) -> bytes | None:
    """Out of the pack that was sealed with the leaf: of the same place and the same sequences."""
    for version in packs_of(store, events_key):
        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast("BinaryIO", spool)
            store.download(version, file)
            for digest, length, at in entries(file):
                if digest == sha256:
                    file.seek(at)
                    return file.read(length)
    return None


def packs_of(store: VersionedStore, events_key: str) -> Iterator[Version]:
    """The packs that were sealed with an events object: one, unless somebody put another beside it.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    place, _, last = events_key.removeprefix(names.EVENTS).rpartition("/")
    yield from firsts(store, f"{names.PAYLOAD}{place}/{last[:33]}-")


def entries(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """What a pack holds: of each ciphertext the digest, the length, and where it begins.

    Raises:
        IntegrityError: it is no pack, or cut off.
    """
    end = file.seek(0, 2)
    file.seek(0)
    if file.read(len(PACK_MAGIC)) != PACK_MAGIC:
        raise IntegrityError("the pack is damaged")
    at = len(PACK_MAGIC)
    while at < end:
        head = file.read(_ENTRY.size)
        if len(head) != _ENTRY.size:
            raise IntegrityError("the pack is cut off")
        digest, length = _ENTRY.unpack(head)
        at += _ENTRY.size
        if at + length > end:
            raise IntegrityError("the pack is cut off")
        yield digest.hex(), length, at
        at = file.seek(at + length)
