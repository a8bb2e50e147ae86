"""C2SP signed notes: parsing, Ed25519 signatures, witnesses' cosignatures. Pure.

Nothing of the writer's is used: this is section "Signed notes" of ``docs/record-format.md``, read again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NOTE_MAX_BYTES: Final = 16 * 1024 * 1024
"""Far beyond the largest roll-up; what is larger is no note."""
_LINES_MAX: Final = 64
_ED25519: Final = b"\x01"
_COSIGNATURE: Final = b"\x04"
_HASHED: Final = b"\xffaffidavit/note-sha256/v1"
_PLAIN_MAX_BYTES: Final = 4096
"""Longer texts are signed by their SHA-256."""


class NoteError(ValueError):
    """It is not a signed note, or not of this form."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """The text that is signed (with its last newline) and the signature lines."""

    text: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed tree head."""

    origin: str
    size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's name and Ed25519 key."""

    name: str
    public_key: bytes


def parse(data: bytes) -> Note:
    """Take a note apart.

    Raises:
        NoteError: it is none.
    """
    text, separator, tail = data.rpartition(b"\n\n")
    lines = tail.split(b"\n")
    if not separator or not tail.endswith(b"\n") or not 2 <= len(lines) <= _LINES_MAX:
        raise NoteError("not a signed note")
    return Note(text + b"\n", tuple(_signature(line) for line in lines[:-1]))


def _signature(line: bytes) -> Signature:
    try:
        dash, name, encoded = line.decode().split(" ")
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, UnicodeDecodeError, binascii.Error):
        raise NoteError("a line after the text is not a signature line") from None
    if dash != "—" or not name or "+" in name or len(raw) < 5 or base64.b64encode(raw).decode() != encoded:
        raise NoteError("a line after the text is not a signature line")
    return Signature(name, raw[:4], raw[4:])


def key_id(name: str, public_key: bytes, kind: bytes = _ED25519) -> bytes:
    """The four bytes that say which key made a signature."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]


def vkey(name: str, public_key: bytes) -> str:
    """The key in C2SP's text form."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(_ED25519 + public_key).decode()}"


def key_of_vkey(text: str, kind: bytes = _ED25519) -> tuple[str, bytes]:
    """Name and key of a C2SP vkey.

    Raises:
        NoteError: it is none of an Ed25519 key.
    """
    try:
        name, identity, encoded = text.split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise NoteError("not a vkey") from None
    if len(raw) != 33 or raw[:1] != kind or key_id(name, raw[1:], kind).hex() != identity:
        raise NoteError("not a vkey of an Ed25519 key")
    return name, raw[1:]


def witness_key(text: str) -> WitnessKey:
    """A witness's vkey (type 0x04).

    Raises:
        NoteError: it is none.
    """
    return WitnessKey(*key_of_vkey(text, _COSIGNATURE))


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Does the Ed25519 signature hold?"""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def signer(note: Note, name: str, accepted: list[bytes]) -> bytes | str:
    """Which accepted key signed the note under ``name``; or the code of the finding if none did."""
    code = "signature_unknown_key"
    kind, message = _signed(note.text)
    for public_key in accepted:
        wanted = key_id(name, public_key, kind)
        for one in note.signatures:
            if one.name == name and one.key_id == wanted:
                if is_signed(public_key, one.blob, message):
                    return public_key
                code = "signature_invalid"
    return code


def _signed(text: bytes) -> tuple[bytes, bytes]:
    """The type of the signatures of a note, and what they are of."""
    if len(text) <= _PLAIN_MAX_BYTES:
        return _ED25519, text
    return _HASHED, b"affidavit note-sha256 v1\n" + hashlib.sha256(text).hexdigest().encode() + b"\n"


def cosigners(note: Note, keys: list[WitnessKey]) -> int:
    """How many of the witnesses cosigned (C2SP tlog-cosignature, Ed25519)."""
    found: set[str] = set()
    for key in keys:
        wanted = key_id(key.name, key.public_key, _COSIGNATURE)
        for one in note.signatures:
            if one.name == key.name and one.key_id == wanted and len(one.blob) == 72:
                (at,) = struct.unpack(">Q", one.blob[:8])
                message = f"cosignature/v1\ntime {at}\n".encode() + note.text
                if is_signed(key.public_key, one.blob[8:], message):
                    found.add(key.name)
    return len(found)


def checkpoint(note: Note) -> Checkpoint:
    """The tree head that a note's text holds.

    Raises:
        NoteError: it holds none, or extension lines.
    """
    try:
        origin, size, root, rest = note.text.decode().split("\n")
        root_hash = base64.b64decode(root, validate=True)
    except (ValueError, UnicodeDecodeError, binascii.Error):
        raise NoteError("not a checkpoint") from None
    is_number = size.isascii() and size.isdigit() and (size == "0" or size[0] != "0") and len(size) <= 16
    if rest or not origin or not is_number or len(root_hash) != 32 or base64.b64encode(root_hash).decode() != root:
        raise NoteError("not a checkpoint")
    return Checkpoint(origin, int(size), root_hash)


def fields(note: Note, schema: str, wanted: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The JSON object that a note's text holds: canonical, of this schema, with at least these fields of these types.

    Raises:
        NoteError: it holds something else.
    """
    line = note.text[:-1]
    try:
        told = orjson.loads(line)
        is_same = orjson.dumps(told, None, orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER) == line
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, TypeError):
        raise NoteError("the note's text is not JSON") from None
    if not is_same or not isinstance(told, dict) or told.get("schema") != schema:
        raise NoteError(f"the note's text is not canonical JSON of {schema}")
    for name, kind in wanted.items():
        if not is_a(told.get(name), kind):
            raise NoteError(f"the field {name} is missing or of the wrong kind")
    return told


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """``isinstance``, but true and false are no numbers, and no count is negative."""
    if isinstance(value, bool):
        return kind is bool or (isinstance(kind, tuple) and bool in kind)
    return isinstance(value, kind) and not (isinstance(value, int) and value < 0)
