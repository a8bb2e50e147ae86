"""A second writer of evidence, made from docs/record-format.md alone: it shares no code with the first one.

`standard()` plans two days of a small gateway; `build()` makes the bucket. Whoever holds the forge holds the signing
key, so a plan can be changed and everything be signed anew: that is the strongest tamperer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GATEWAY = "demo.example/affidavit"
RETENTION_DAYS = 400
Log = tuple[str, str]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree_root(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + tree_root(hashes[:split]) + tree_root(hashes[split:])).digest()


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def inclusion(hashes: list[bytes], index: int) -> list[bytes]:
    """RFC 6962 section 2.1.1."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*inclusion(hashes[:split], index), tree_root(hashes[split:])]
    return [*inclusion(hashes[split:], index - split), tree_root(hashes[:split])]


class Signer:
    """An Ed25519 key that signs notes under any name."""

    def __init__(self, seed: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self.public = self._key.public_key().public_bytes_raw()
        self.public_text = base64.b64encode(self.public).decode()

    def key_id(self, name: str, kind: bytes = b"\1") -> bytes:
        return hashlib.sha256(name.encode() + b"\n" + kind + self.public).digest()[:4]

    def vkey(self, name: str, kind: bytes = b"\1") -> str:
        return f"{name}+{self.key_id(name, kind).hex()}+{base64.b64encode(kind + self.public).decode()}"

    def line(self, name: str, text: bytes) -> bytes:
        if len(text) > 4096:
            kind = b"\xffaffidavit/note-sha256/v1"
            message = b"affidavit note-sha256 v1\n" + hashlib.sha256(text).hexdigest().encode() + b"\n"
            blob = self.key_id(name, kind) + self._key.sign(message)
        else:
            blob = self.key_id(name) + self._key.sign(text)
        return f"— {name} ".encode() + base64.b64encode(blob) + b"\n"

    def note(self, name: str, text: bytes) -> bytes:
        return text + b"\n" + self.line(name, text)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def cosign(self, name: str, text: bytes, at: int) -> bytes:
        signature = self._key.sign(f"cosignature/v1\ntime {at}\n".encode() + text)
        blob = self.key_id(name, b"\4") + struct.pack(">Q", at) + signature
        return f"— {name} ".encode() + base64.b64encode(blob) + b"\n"


@dataclass
class Stored:
    """One version. ``body`` None: a delete marker."""

    key: str
    body: bytes | None
    at: datetime
    lock_mode: str | None = "COMPLIANCE"
    retain_until: datetime | None = None


class Bucket:
    """Versions in the order in which they were written."""

    def __init__(self) -> None:
        self.versions: list[Stored] = []

    def put(self, key: str, body: bytes | None, at: datetime) -> Stored:
        until = at + timedelta(days=RETENTION_DAYS) if body is not None else None
        made = Stored(key, body, at, "COMPLIANCE" if body is not None else None, until)
        self.versions.append(made)
        return made

    def named(self, part: str) -> list[Stored]:
        return [one for one in self.versions if part in one.key]

    def remove(self, *gone: Stored) -> None:
        self.versions = [one for one in self.versions if one not in gone]

    def export(self, folder: Path, now: datetime, *, with_trees: bool = False, **bucket: Any) -> Path:
        """The directory that `affidavit export` would write."""
        folder.mkdir(parents=True)
        told = {
            "bucket": "evidence",
            "prefix": "",
            "versioning": "Enabled",
            "object_lock": {"enabled": True, "mode": "COMPLIANCE", "days": RETENTION_DAYS},
            "exported_at": instant(now),
            **bucket,
        }
        (folder / "bucket.json").write_bytes(canonical(told) + b"\n")
        keys = sorted({one.key for one in self.versions})
        lines = []
        for key in keys:
            mine = sorted((one for one in self.versions if one.key == key), key=lambda one: one.at, reverse=True)
            for index, one in enumerate(mine):
                lines.append(self._write(folder, one, len(mine) - index, is_latest=index == 0))
        inventory = b"".join(canonical(line) + b"\n" for line in lines)
        (folder / "inventory.jsonl").write_bytes(inventory)
        if with_trees:
            write_trees(self, folder / "logs")
        write_sums(folder)
        return folder

    def _write(self, folder: Path, one: Stored, number: int, *, is_latest: bool) -> dict[str, Any]:
        name = None
        if one.body is not None:
            name = f"objects/{one.key}" if number == 1 else f"objects/{one.key}@{number}"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.body)
        return {
            "key": one.key,
            "version": str(number),
            "is_latest": is_latest,
            "is_delete_marker": one.body is None,
            "bytes": len(one.body) if one.body is not None else None,
            "sha256": sha(one.body) if one.body is not None else None,
            "lock_mode": one.lock_mode,
            "retain_until": instant(one.retain_until) if one.retain_until else None,
            "legal_hold": False,
            "last_modified": instant(one.at),
            "file": name,
        }


def write_sums(folder: Path) -> None:
    text = "".join(f"{sha((folder / name).read_bytes())}  {name}\n" for name in ("bucket.json", "inventory.jsonl"))
    (folder / "inventory.sha256").write_text(text)


def write_trees(bucket: Bucket, folder: Path) -> None:
    """C2SP tlog-tiles of every log, up to its newest checkpoint."""
    logs = sorted({tuple(one.key.split("/")[2:4]) for one in bucket.named("/checkpoint/")})
    for replica, epoch in logs:
        events = sorted(
            (one for one in bucket.named(f"replica={replica}/epoch={epoch}/") if one.key.startswith("v1/events/")),
            key=lambda one: one.key.rpartition("/")[2],
        )
        leaves = [line for one in events for line in lines_of(one.body or b"")]
        newest = max(bucket.named(f"v1/log/{replica}/{epoch}/checkpoint/"), key=lambda one: one.key)
        note = newest.body or b""
        leaves = leaves[: int(note.split(b"\n")[1])]
        write_tree(folder / replica / epoch, leaves, note, forge_vkey(note))


def forge_vkey(note: bytes) -> str:
    return SIGNER.vkey(note.split(b"\n")[0].decode())


def write_tree(folder: Path, leaves: list[bytes], note: bytes, vkey: str) -> None:
    def write(level: str, number: int, width: int, data: bytes) -> None:
        name = f"{number % 1000:03d}"
        while number >= 1000:
            number //= 1000
            name = f"x{number % 1000:03d}/{name}"
        path = folder / "tile" / level / (name if width == 256 else f"{name}.p/{width}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(note)
    (folder / "log.vkey").write_text(vkey + "\n")
    for at in range(0, len(leaves), 256):
        part = leaves[at : at + 256]
        write("entries", at // 256, len(part), b"".join(struct.pack(">H", len(one)) + one for one in part))
    level, hashes = 0, [leaf_hash(one) for one in leaves]
    while hashes:
        for at in range(0, len(hashes), 256):
            part = hashes[at : at + 256]
            write(str(level), at // 256, len(part), b"".join(part))
        full = len(hashes) // 256
        hashes = [tree_root(hashes[at * 256 : at * 256 + 256]) for at in range(full)]
        level += 1


def compressed(lines: list[bytes]) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(b"".join(line + b"\n" for line in lines))


def lines_of(body: bytes) -> list[bytes]:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body).split(b"\n")[:-1]


SIGNER = Signer("the gateway's")


@dataclass
class Draft:
    """A leaf to be. ``place``: where it came to stand, once it was written."""

    kind: str
    at: datetime
    fields: dict[str, Any] = field(default_factory=dict)
    ciphertexts: list[bytes] = field(default_factory=list)
    intent: Draft | None = None
    segment: int = 0
    place: dict[str, Any] = field(default_factory=dict)


@dataclass
class LogPlan:
    """A log to be. ``digests``: are its completed hours digested."""

    replica: str
    epoch: str
    role: str
    drafts: list[Draft] = field(default_factory=list)
    origin: str = ""
    digests: bool = True
    has_roster: bool = True
    config_sha256: str = sha(b"configuration")

    def __post_init__(self) -> None:
        self.origin = self.origin or f"{GATEWAY}/{self.replica}/{self.epoch}"

    @property
    def log(self) -> Log:
        return self.replica, self.epoch


@dataclass
class Built:
    """What a log became: enough for those who speak of it."""

    plan: LogPlan
    leaves: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    ats: list[datetime] = field(default_factory=list)
    end: str | None = None
    roster_sha256: str = ""
    digests: list[tuple[str, str, int]] = field(default_factory=list)

    def row(self, size: int | None = None) -> dict[str, Any]:
        size = size or len(self.leaves)
        return {
            "origin": self.plan.origin,
            "size": size,
            "root_hash": tree_root(self.hashes[:size]).hex(),
            "end": self.end if size == len(self.leaves) else None,
            "first_at": instant(self.ats[0]),
            "last_at": instant(self.ats[size - 1]),
        }


class Forge:
    """Makes buckets.

    Every ``change_*`` is called at its point of the making and may change what it is given.
    """

    def __init__(self, signer: Signer = SIGNER, stamp: Callable[[bytes], bytes] | None = None) -> None:
        self.signer = signer
        self.stamp = stamp
        self.witnesses: dict[str, Signer] = {}
        self.receipt_keys: dict[Log, Signer] = {}
        self.bucket = Bucket()
        self.built: dict[Log, Built] = {}
        self.change_digest: Callable[[dict[str, Any]], None] = lambda _told: None
        self.change_rollup: Callable[[dict[str, Any]], None] = lambda _told: None

    def policy(self, path: Path, **changes: Any) -> Path:
        told = {
            "schema": "affidavit/policy/v1",
            "gateway": GATEWAY,
            "log_keys": [SIGNER.public_text],
            "retention_days": RETENTION_DAYS,
            "heartbeat_seconds": 60,
            "clock_tolerance_seconds": 300,
            **changes,
        }
        path.write_text(yaml.safe_dump(told))
        return path

    def receipt(self, log: Log, sequence: int, signer: Signer | None = None) -> str:
        origin, digest = self.built[log].plan.origin, self.built[log].hashes[sequence].hex()
        message = f"affidavit receipt v1\n{origin}\n{sequence}\n{digest}\n".encode()
        signature = base64.b64encode((signer or self.receipt_keys[log]).sign(message)).decode()
        return f"{origin};{sequence};{digest};{signature}"

    def proof(self, log: Log, sequence: int) -> dict[str, Any]:
        built = self.built[log]
        size = built.sizes[-1]
        text = f"{built.plan.origin}\n{size}\n{base64.b64encode(tree_root(built.hashes)).decode()}\n".encode()
        return {
            "leaf": built.leaves[sequence].decode(),
            "index": sequence,
            "size": size,
            "hashes": [base64.b64encode(one).decode() for one in inclusion(built.hashes, sequence)],
            "checkpoint": self.signer.note(built.plan.origin, text).decode(),
            "vkey": self.signer.vkey(built.plan.origin),
        }

    # Logs ----------------------------------------------------------------------------------------------------------

    def write_log(self, plan: LogPlan) -> Built:
        built = Built(plan)
        self.built[plan.log] = built
        receipts = self.receipt_keys.setdefault(plan.log, Signer(f"receipts of {plan.origin}"))
        with_receipts = plan.role not in ("shipper", "command")
        opening = plan.drafts[0]
        if opening.kind == "log.open":
            opening.fields["receipt_key"] = receipts.vkey(plan.origin) if with_receipts else None
        if plan.has_roster:
            self._write_roster(plan, built, receipts.public_text if with_receipts else None)
        parts: list[dict[str, Any]] = []
        digested = 0
        for segment in sorted({one.segment for one in plan.drafts}):
            mine = [one for one in plan.drafts if one.segment == segment]
            if parts and parts[-1]["hour"] != mine[0].at.strftime("%Y-%m-%dT%H") and plan.digests:
                self._write_digest(built, parts[digested:], is_last=False)
                digested = len(parts)
            parts.append(self._write_segment(plan, built, mine))
        if plan.digests and built.end:
            self._write_digest(built, parts[digested:], is_last=True)
        return built

    def _write_roster(self, plan: LogPlan, built: Built, receipt_key: str | None) -> None:
        at = plan.drafts[0].at
        told = {
            "schema": "affidavit/roster/v1",
            "origin": plan.origin,
            "at": instant(at),
            "role": plan.role,
            "log_key": self.signer.public_text,
            "receipt_key": receipt_key,
            "config_sha256": plan.config_sha256,
        }
        note = self.signer.note(plan.origin, canonical(told) + b"\n")
        built.roster_sha256 = sha(note)
        self.bucket.put(f"v1/roster/dt={instant(at)[:10]}/{plan.replica}.{plan.epoch}.note", note, at)

    def _write_segment(self, plan: LogPlan, built: Built, drafts: list[Draft]) -> dict[str, Any]:
        first = len(built.leaves)
        counts: dict[str, int] = {}
        for one in drafts:
            leaf = self._leaf(plan, built, one)
            built.leaves.append(leaf)
            built.hashes.append(leaf_hash(leaf))
            built.ats.append(one.at)
            counts[one.kind] = counts.get(one.kind, 0) + 1
            if one.kind in ("log.close", "log.recovered"):
                built.end = one.kind.removeprefix("log.")
        at = drafts[-1].at + timedelta(seconds=2)
        day, hour = instant(drafts[0].at)[:10], instant(drafts[0].at)[11:13]
        place = f"dt={day}/hour={hour}/replica={plan.replica}/epoch={plan.epoch}"
        span = f"{first:016d}-{len(built.leaves) - 1:016d}"
        objects = []

        def put(room: str, body: bytes, suffix: str) -> None:
            key = f"v1/{room}/{place}/{span}-{sha(body)[:16]}.{suffix}"
            self.bucket.put(key, body, at)
            objects.append({"key": key, "sha256": sha(body), "bytes": len(body)})

        ciphertexts = [text for one in drafts for text in one.ciphertexts]
        if ciphertexts:
            entries = (hashlib.sha256(one).digest() + struct.pack(">Q", len(one)) + one for one in ciphertexts)
            put("payload", b"AFP1" + b"".join(entries), "pack")
        put("events", compressed(built.leaves[first:]), "jsonl.zst")
        built.sizes.append(len(built.leaves))
        self.write_checkpoint(built, len(built.leaves), at + timedelta(seconds=1))
        return {
            "place": place, "hour": f"{day}T{hour}", "objects": objects, "counts": counts, "first": first,
            "size": len(built.leaves), "from": instant(drafts[0].at), "to": instant(drafts[-1].at), "at": at,
        }  # fmt: skip

    def write_checkpoint(self, built: Built, size: int, at: datetime) -> None:
        plan = built.plan
        root = base64.b64encode(tree_root(built.hashes[:size])).decode()
        text = f"{plan.origin}\n{size}\n{root}\n".encode()
        note = self.signer.note(plan.origin, text)
        self.bucket.put(f"v1/log/{plan.replica}/{plan.epoch}/checkpoint/{size:016d}-{sha(note)[:16]}.note", note, at)
        if self.witnesses:
            for name, witness in self.witnesses.items():
                note += witness.cosign(name, text, int(at.timestamp()))
            self.bucket.put(f"v1/log/{plan.replica}/{plan.epoch}/cosigned/{size:016d}-{sha(note)[:16]}.note", note, at)

    def _leaf(self, plan: LogPlan, built: Built, draft: Draft) -> bytes:
        fields = dict(draft.fields)
        if draft.intent is not None:
            fields["intent_sequence"] = draft.intent.fields.get("_sequence", 0)
        draft.fields["_sequence"] = len(built.leaves)
        draft.place.update(origin=plan.origin, sequence=len(built.leaves))
        fields.pop("_sequence", None)
        if draft.kind == "log.close":
            fields["leaves"] = len(built.leaves) + 1
        if draft.kind == "log.recovered":
            fields["last_good_sequence"] = len(built.leaves) - 1
        if draft.kind.startswith("inference."):
            fields["payloads"] = [
                {
                    "role": "request.raw",
                    "ciphertext_sha256": sha(one),
                    "ciphertext_bytes": len(one),
                    "algorithm": "A256GCM",
                }
                for one in draft.ciphertexts
            ]
        told = {
            "schema": "affidavit/v1", "kind": draft.kind, "origin": plan.origin, "sequence": len(built.leaves),
            "at": instant(draft.at), **fields,
        }  # fmt: skip
        return canonical(told)

    def _write_digest(self, built: Built, parts: list[dict[str, Any]], *, is_last: bool) -> None:
        plan, number = built.plan, len(built.digests)
        counts: dict[str, int] = {}
        for part in parts:
            for kind, count in part["counts"].items():
                counts[kind] = counts.get(kind, 0) + count
        size = parts[-1]["size"]
        told = {
            "schema": "affidavit/digest/v1",
            "origin": plan.origin,
            "number": number,
            "from": parts[0]["from"],
            "to": parts[-1]["to"],
            "first_sequence": parts[0]["first"],
            "size": size,
            "root_hash": tree_root(built.hashes[:size]).hex(),
            "objects": [one for part in parts for one in part["objects"]],
            "counts": counts,
            "previous_sha256": built.digests[-1][1] if built.digests else None,
            "is_last": is_last,
            "at": instant(parts[-1]["at"] + timedelta(seconds=3)),
        }
        self.change_digest(told)
        note = self.signer.note(plan.origin, canonical(told) + b"\n")
        key = f"v1/digest/{parts[0]['place']}/{number:06d}-{sha(note)[:16]}.note"
        at = parts[-1]["at"] + timedelta(seconds=4)
        self.bucket.put(key, note, at)
        built.digests.append((key, sha(note), number))
        if self.stamp is not None:
            self.bucket.put(f"{key}.tsr", self.stamp(note), at + timedelta(seconds=1))

    # Days ----------------------------------------------------------------------------------------------------------

    def write_rollup(self, day: str, rows: list[dict[str, Any]], at: datetime, previous: str | None) -> tuple[str, str]:
        told = {
            "schema": "affidavit/rollup/v1", "gateway": GATEWAY, "day": day, "previous_sha256": previous,
            "epochs": sorted(rows, key=lambda row: row["origin"]), "at": instant(at),
        }  # fmt: skip
        self.change_rollup(told)
        return self.write_note("rollup", day, told, at)

    def write_note(self, room: str, day: str, told: dict[str, Any], at: datetime) -> tuple[str, str]:
        note = self.signer.note(GATEWAY, canonical(told) + b"\n")
        key = f"v1/{room}/dt={day}/{sha(note)[:16]}.note"
        self.bucket.put(key, note, at)
        return key, sha(note)

    def write_access(self, lines: list[bytes], first: int, at: datetime) -> Draft:
        text = b"".join(line + b"\n" for line in lines)
        body = zstandard.ZstdCompressor().compress(text)
        last = first + len(text)
        key = f"v1/access/replica=gw-0/g1/{first:016d}-{last:016d}-{sha(body)[:16]}.jsonl.zst"
        self.bucket.put(key, body, at)
        told = {
            "key": key, "sha256": sha(body), "generation": "g1", "first_offset": first, "last_offset": last,
            "lines": len(lines),
        }  # fmt: skip
        return Draft("access.shipped", at + timedelta(seconds=1), told)


# The plan of the standard bucket -----------------------------------------------------------------------------------

START = datetime(2026, 11, 24, 22, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 25, 0, 30, 30, tzinfo=UTC)
FIRST: Log = ("gw-0-1", "20261124T221000000000-aaaaaaaa")
SECOND: Log = ("gw-0-1", "20261124T232100000000-bbbbbbbb")
THIRD: Log = ("gw-0-1", "20261125T001000000000-cccccccc")
SHIPPER: Log = ("gw-0-shipper", "20261124T220900000000-dddddddd")
SHIPPER2: Log = ("gw-0-shipper", "20261125T000200000000-eeeeeeee")
CONSOLE: Log = ("gw-0-command", "20261124T231800000000-99999999")
COMMAND: Log = ("gw-0-command", "20261125T000501000000-ffffffff")


@dataclass
class Plans:
    """The logs of the standard bucket before they are written."""

    first: LogPlan
    console: LogPlan
    second: LogPlan
    third: LogPlan
    asked: Draft
    """Two people are asked about a call, in the first log."""
    words: list[Draft]
    """What they said, in the console's log."""
    held: list[Draft]
    """In the second log: the call's intent, of an exchange whose caller left; then the one that passed."""
    emergency: list[Draft]
    """A call without them: that it is one, its intent, its outcome."""


def plan_worker(log: Log, at: datetime, minutes: int, previous: str | None, exchanges: int) -> LogPlan:
    """A worker that lives so many minutes: a heartbeat each minute, some exchanges; not ended."""
    plan = LogPlan(*log, role="1")
    plan.drafts.append(_opening(plan, at, previous))
    for minute in range(1, minutes):
        now = at + timedelta(minutes=minute)
        plan.drafts.append(Draft("heartbeat", now, {"in_flight": 0, "counts": {}, "monotonic_ns": minute * 60 * 10**9}))
        if minute * exchanges // minutes > (minute - 1) * exchanges // minutes:
            plan.drafts += exchange(f"{log[1]}-{minute}", now + timedelta(seconds=5))
    segment(plan)
    return plan


def person(name: str) -> dict[str, Any]:
    return {"subject_ref": f"hmac-sha256:{sha(name.encode())}"}


def word(name: str, at: datetime, action: str = "approve") -> Draft:
    about = {"hold_id": HOLD, "binding_sha256": BINDING, "action": action, "payloads": []}
    return Draft("approval.resolved", at, {"exchange_id": "held", "actor": person(name), **about})


def asking(name: str, at: datetime) -> Draft:
    terms = {"groups": ["approvers"], "count": 2, "within_seconds": 7200, "valid_seconds": 900}
    fields = {"exchange_id": name, "actor": person("caller"), "policy": TO_BE_APPROVED, "request": REQUEST}
    return Draft("approval.requested", at, {**fields, "approval": _approval("pending", None, []), "terms": terms})


def _approval(state: str, valid_until: str | None, said: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "hold_id": HOLD, "binding_sha256": BINDING, "count": 2, "state": state, "asked": instant(START),
        "expires": instant(START + timedelta(hours=2)), "valid_until": valid_until, "resolutions": said,
    }  # fmt: skip


def held_call(name: str, at: datetime, words: list[Draft], *, is_let_on: bool) -> list[Draft]:
    """An exchange that passes because people agreed; or would have, but its caller left just then."""
    said = [
        {
            "action": one.fields["action"],
            "person_ref": one.fields["actor"]["subject_ref"],
            "time": instant(one.at),
            "record": one.place,
        }
        for one in words
    ]
    until = max((one.at for one in words), default=at) + timedelta(minutes=15)
    drafts = exchange(name, at)
    drafts[0].fields |= {
        "actor": person("caller"), "policy": TO_BE_APPROVED, "request": REQUEST,
        "approval": _approval("claimed", instant(until), said),
    }  # fmt: skip
    if not is_let_on:
        drafts[1].fields |= {"time": {"recorded": instant(at)}, "outcome": {"status": "abandoned", "code": None}}
        drafts[1].ciphertexts.clear()
    return drafts


def emergency_call(name: str, at: datetime) -> list[Draft]:
    drafts = exchange(name, at)
    known = {"actor": person("caller"), "request": REQUEST, "policy": {**ALLOWED, "break_glass": "incident"}}
    drafts[0].fields |= known
    return [Draft("approval.break_glass", at, {"exchange_id": name, "payloads": [], **known}), *drafts]


HOLD = "ab" * 16
BINDING = "cd" * 32
TO_BE_APPROVED = {"allow": True, "approval_required": True, "bundle_digest": "b" * 64}
ALLOWED = {"allow": True, "approval_required": False, "bundle_digest": "b" * 64}
REQUEST = {"connection": "demo", "method": "POST", "path": "/v1/chat/completions", "model": "m", "body_bytes": 9}


def exchange(name: str, at: datetime) -> list[Draft]:
    texts = [hashlib.sha256(f"{name}{n}".encode()).digest() * 3 for n in range(3)]
    intent = Draft("inference.intent", at, {"exchange_id": name, "actor": None, "policy": ALLOWED}, texts[:2])
    outcome = {"status": "completed", "http_status": 200, "code": None, "released_bytes": 5}
    told = {"exchange_id": name, "outcome": outcome, "time": {"forwarded": instant(at)}}
    return [intent, Draft("inference.outcome", at + timedelta(seconds=1), told, texts[2:], intent)]


def segment(plan: LogPlan) -> None:
    """Ten minutes to an object."""
    for one in plan.drafts:
        one.segment = int(one.at.timestamp()) // 600


def close(plan: LogPlan, at: datetime) -> None:
    plan.drafts.append(Draft("log.close", at, {}))
    plan.drafts[-1].segment = plan.drafts[-2].segment


def _opening(plan: LogPlan, at: datetime, previous: str | None) -> Draft:
    told = {
        "version": "1", "python": "3.11", "config_sha256": plan.config_sha256, "role": plan.role, "process": 1,
        "previous": previous, "boot_id": "b", "monotonic_ns": 0, "receipt_key": None, "connections": [],
    }  # fmt: skip
    return Draft("log.open", at, told)


def standard_plans() -> Plans:
    first = plan_worker(FIRST, START, 70, None, 20)
    asked = asking("asked", START + timedelta(minutes=68, seconds=10))
    first.drafts = sorted([*first.drafts, asked], key=lambda one: one.at)
    segment(first)
    console = plan_worker(CONSOLE, START + timedelta(minutes=68), 3, None, 0)
    console.role = "command"
    console.drafts[0].fields["role"] = "command"
    words = [word(name, START + timedelta(minutes=70, seconds=20)) for name in ("one", "another")]
    console.drafts += words
    segment(console)
    close(console, START + timedelta(minutes=71))
    close(first, START + timedelta(minutes=70))
    born = START + timedelta(minutes=71)
    second = plan_worker(SECOND, born, 20, FIRST[1], 5)
    held = held_call("left", born + timedelta(minutes=1, seconds=20), words, is_let_on=False)
    held += held_call("passed", born + timedelta(minutes=2, seconds=20), words, is_let_on=True)
    emergency = emergency_call("emergency", born + timedelta(minutes=2, seconds=30))
    second.drafts = sorted([*second.drafts, *held, *emergency], key=lambda one: one.at)
    segment(second)
    lost = Draft(
        "inference.intent", born + timedelta(minutes=19, seconds=30), {"exchange_id": "lost", "policy": ALLOWED}
    )
    lost.segment = second.drafts[-1].segment
    died = born + timedelta(minutes=29)
    recovered = Draft(
        "log.recovered", died, {"dropped_bytes": 10, "interrupted": 1, "parts": 0, "undelivered": 1}, segment=10**9
    )
    ended = {"status": "interrupted", "code": "worker_died"}
    told = {"exchange_id": "lost", "outcome": ended, "time": {"recorded": instant(died)}}
    second.drafts += [lost, recovered, Draft("inference.outcome", died, told, [], lost, segment=10**9)]
    answered = next(one for one in reversed(second.drafts) if (one.fields.get("outcome") or {}).get("code", "") is None)
    doubt = {"exchange_id": answered.fields["exchange_id"], "outcome_sequence": 1, "delivery": "unknown"}
    second.drafts.append(Draft("inference.undelivered", died, doubt, segment=10**9))
    third = plan_worker(THIRD, datetime(2026, 11, 25, 0, 10, tzinfo=UTC), 20, SECOND[1], 6)
    return Plans(first, console, second, third, asked, words, held, emergency)


def build(
    forge: Forge | None = None, plans: Plans | None = None, *, spoken: Callable[[list[Draft]], None] | None = None
) -> Forge:
    """The standard bucket. ``spoken``: may change what the first shipper says."""
    forge, plans = forge or Forge(), plans or standard_plans()
    workers = [forge.write_log(plan) for plan in (plans.first, plans.console, plans.second)]
    said = _said(workers)
    lines = [canonical({"request_id": str(n), "code": 200}) for n in range(30)]
    end = sum(len(line) + 1 for line in lines[:20])
    said.append(forge.write_access(lines[:20], 0, START + timedelta(minutes=30)))
    said.append(forge.write_access(lines[20:], end, START + timedelta(minutes=60)))
    checks = [{"name": "delete", "expected": "refused", "found": "refused", "ok": True}]
    canary = {"checks": checks, "ok": True, "store": "s3://evidence"}
    said.append(Draft("worm.canary", START + timedelta(minutes=1), canary))
    bait = "v1/canary/" + SHIPPER[1] + "/delete"
    forge.bucket.put(bait, b"bait", START)
    forge.bucket.put(bait, None, START + timedelta(seconds=1))
    if spoken is not None:
        spoken(said)
    shipper = forge.write_log(plan_shipper(SHIPPER, START - timedelta(minutes=1), 110, None, said, is_closed=True))
    day2 = datetime(2026, 11, 25, 0, 5, tzinfo=UTC)
    rows = [one.row() for one in (*workers, shipper)]
    rollup = forge.write_rollup("2026-11-24", rows, day2, None)
    statement = {
        "schema": "affidavit/reconcile/v1", "gateway": GATEWAY, "day": "2026-11-24", "envoy": 30, "audited": 30,
        "orphans": 0, "explained": [], "gaps": [], "at": instant(day2),
    }  # fmt: skip
    stated = forge.write_note("reconcile", "2026-11-24", statement, day2)
    command = LogPlan(*COMMAND, role="command")
    at = day2 + timedelta(seconds=1)
    command.drafts = [
        _opening(command, at, None),
        Draft("rollup.made", at, {"day": "2026-11-24", "key": rollup[0], "sha256": rollup[1]}),
        Draft(
            "reconcile.result", at,
            {"day": "2026-11-24", "envoy": 30, "audited": 30, "orphans": 0, "gaps": [], "statement_sha256": stated[1]},
        ),
    ]  # fmt: skip
    close(command, at)
    later = [forge.write_log(command), forge.write_log(plans.third)]
    began = datetime(2026, 11, 25, 0, 2, tzinfo=UTC)
    forge.write_log(plan_shipper(SHIPPER2, began, 28, SHIPPER[1], _said(later), is_closed=False))
    return forge


def _said(logs: list[Built]) -> list[Draft]:
    said = []
    for one in logs:
        at = one.ats[0] + timedelta(seconds=3)
        said.append(Draft("epoch.born", at, {"born_origin": one.plan.origin, "roster_sha256": one.roster_sha256}))
        for key, digest, number in one.digests:
            made = {"key": key, "sha256": digest, "of_origin": one.plan.origin, "number": number}
            said.append(Draft("digest.made", one.ats[-1] + timedelta(seconds=6), made))
        if one.end:
            root = tree_root(one.hashes).hex()
            ended = {"ended_origin": one.plan.origin, "leaves": len(one.leaves), "root_hash": root, "end": one.end}
            said.append(Draft("epoch.ended", one.ats[-1] + timedelta(seconds=7), ended))
    return said


def plan_shipper(
    log: Log, at: datetime, minutes: int, previous: str | None, said: list[Draft], *, is_closed: bool
) -> LogPlan:
    plan = plan_worker(log, at, minutes, previous, 0)
    plan.role = "shipper"
    plan.drafts[0].fields["role"] = "shipper"
    plan.drafts = [plan.drafts[0], *sorted([*plan.drafts[1:], *said], key=lambda one: one.at)]
    segment(plan)
    if is_closed:
        close(plan, plan.drafts[-1].at + timedelta(seconds=20))
    return plan
