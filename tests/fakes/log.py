"""A log to test with: keys, entries, a writer on a small disk, and what is on that disk afterwards."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ext_proc.audit import frames, segments
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.note import vkey_of
from ext_proc.audit.record import build_leaf
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.audit.seal import read_events
from ext_proc.audit.segments import FileOps
from ext_proc.audit.writer import WalLimits, Writer
from ext_proc.database import sqlite_url
from ext_proc.model import Entry, ExchangeId, Identity, Payload, Receipt, Source
from ext_proc.phases.facts import instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.audit.note import Signer
    from ext_proc.audit.store import Store

AT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
GATEWAY = "audit.example"
ORIGIN = f"{GATEWAY}/gw-0-0"
OPENING = {"version": "test", "role": "0", "receipt_key": None, "config_sha256": "0" * 64, "previous": None}
ADA = Identity("https://idp.example.com", "ada", "oidc", ("analysts",), client="notebook", tenant="acme", token_id="t1")
SOURCE = Source("10.0.0.7:41234", "curl/8")
LIMITS = WalLimits(segment_bytes=64 * 1024, max_bytes=4 * 1024 * 1024, emergency_bytes=64 * 1024, seal_seconds=60.0)


def epoch(number: int, at: datetime = AT) -> str:
    """The name of an epoch that began at ``at``."""
    return f"{at:%Y%m%dT%H%M%S%f}-{number:08x}"


E1 = epoch(1)


class Recording(Writer):
    """The real writer. An outcome names its exchange's intent, as the driver has it do."""

    async def record(self, entry: Entry, now: datetime) -> Receipt:
        """See `ports.Recorder.record`."""
        intents: dict[str, int] = self.__dict__.setdefault("intents", {})
        if entry.kind == "inference.outcome" and "intent_sequence" not in entry.facts:
            named = {**entry.facts, "intent_sequence": intents.get(entry.exchange_id)}
            entry = replace(entry, facts=named)
        receipt = await super().record(entry, now)
        if entry.kind == "inference.intent":
            intents[entry.exchange_id] = receipt.sequence
        return receipt


def a_keyring(folder: Path, key: bytes = b"k" * 32) -> KeyRing:
    """Keys with their registry in ``folder``."""
    return KeyRing(key, b"p" * 32, SqlRegistry.from_url(sqlite_url(folder / "registry.sqlite")))


def intent(number: int, body: bytes | None = b'{"model":"demo"}') -> Entry:
    """The intent of exchange ``number``; None: without a payload."""
    payloads = (Payload("request.raw", body, "application/json"),) if body is not None else ()
    facts: dict[str, Any] = {
        "request": {"connection": "demo", "body_bytes": len(body or b"")},
        "policy": {"allow": True, "approval_required": False},
    }
    return Entry("inference.intent", ExchangeId(f"exchange-{number}"), ADA, SOURCE, facts, payloads)


def outcome(number: int, body: bytes | None = None) -> Entry:
    """The outcome of exchange ``number``."""
    payloads = (Payload("response.released", body, "application/json"),) if body is not None else ()
    facts = {"outcome": {"status": "completed", "http_status": 200}, "time": {"forwarded": instant(AT)}}
    return Entry("inference.outcome", ExchangeId(f"exchange-{number}"), ADA, SOURCE, facts, payloads)


async def a_writer(
    folder: Path,
    name: str = E1,
    ops: FileOps | None = None,
    keyring: KeyRing | None = None,
    at: datetime = AT,
    receipts: Signer | None = None,
    **limits: Any,
) -> Writer:
    """A writer in ``folder / "evidence"`` for the epoch ``name``; ``limits`` change `LIMITS`."""
    opening = {**OPENING, "receipt_key": vkey_of(GATEWAY, receipts.public_key) if receipts else None}
    return await Recording.open(
        folder / "evidence",
        origin=ORIGIN,
        epoch=name,
        keyring=keyring or a_keyring(folder),
        opening=opening,
        limits=replace(LIMITS, **limits),
        now=at,
        ops=ops or FileOps(),
        receipts=receipts,
    )


def files(folder: Path) -> list[str]:
    """What is in an epoch's folder."""
    return sorted(path.name for path in folder.iterdir())


def on_disk(folder: Path) -> list[dict[str, Any]]:
    """Every leaf that checks in an epoch's segments, in the order of the files."""
    paths = sorted([*folder.glob("*.sealed"), *folder.glob("*.wal")])
    found = [frame for path in paths for frame in frames.scan(path.read_bytes()).frames]
    return [json.loads(frame.leaf) for frame in found if frame.type == frames.LEAF]


def in_store(store: Store) -> list[dict[str, Any]]:
    """Every leaf in the store, in the order of the keys."""
    return [json.loads(line) for key in store.keys("v1/events/") for line in read_events(store.fetch(key))]


def told(leaves: list[dict[str, Any]]) -> list[str]:
    """Leaves in short."""
    return [
        " ".join(
            str(part)
            for part in (
                leaf["sequence"],
                leaf["kind"].removeprefix("inference."),
                leaf.get("exchange_id", "").removeprefix("exchange-"),
                (leaf.get("outcome") or {}).get("status", ""),
            )
            if part != ""
        )
        for leaf in leaves
    ]


def a_leaf(sequence: int, kind: str, origin: str, at: datetime = AT, **fields: Any) -> tuple[bytes, list[bytes]]:
    """A leaf and its ciphertexts, as the writer would have made them; an outcome has one ciphertext."""
    ciphertexts: list[bytes] = []
    if kind == "log.open":
        fields = {**OPENING, **fields}
    if kind == "inference.outcome":
        ciphertexts = [b"nonce, ciphertext and tag of %06d" % sequence]
        payloads = [{"role": "response.released", "ciphertext_sha256": sha256(one).hexdigest()} for one in ciphertexts]
        exchange = {"exchange_id": f"exchange-{sequence}", "intent_sequence": None, "outcome": {"status": "refused"}}
        fields = {**exchange, "payloads": payloads, **fields}
    return build_leaf(kind, origin=origin, sequence=sequence, at=at, fields=fields), ciphertexts


def a_dead_log(
    folder: Path, sizes: Sequence[int], name: str = E1, times: Sequence[datetime] = (), *, is_closed: bool = True
) -> list[Path]:
    """A log that has ended, in sealed segments of ``sizes`` leaves, which are of ``times``. Returns their paths."""
    made = folder / "evidence" / name
    made.mkdir(parents=True, exist_ok=True)
    origin, total, sequence, paths = f"{ORIGIN}/{name}", sum(sizes), 0, []
    for index, size in enumerate(sizes):
        at = times[index] if times else AT
        path = made / segments.name_of(sequence, segments.SEALED)
        parts = []
        for _ in range(size):
            is_last = is_closed and sequence == total - 1
            kind = "log.open" if not sequence else "log.close" if is_last else "inference.outcome"
            leaf, ciphertexts = a_leaf(sequence, kind, origin, at, **({"leaves": total} if is_last else {}))
            parts.append(frames.encode_leaf(sequence, leaf, ciphertexts))
            sequence += 1
        path.write_bytes(b"".join(parts))
        os.utime(path, (at.timestamp(), at.timestamp()))
        paths.append(path)
    segments.mark_ended(made)
    return paths
