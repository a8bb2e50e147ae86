"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint), Ed25519 only. Pure but for the signer handed in.

A note is a text that ends in a newline, an empty line, and signature lines ``— <name> <base64>``: four bytes of key id,
then the signature of the text. A text that is longer than a key service signs at once (`PLAIN_MAX_BYTES`) is signed by
its SHA-256, in a signature of a type of our own, whoever signs: how a note is signed follows from the note alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_proc.audit.record import canonical
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

ED25519: Final = b"\x01"
"""The algorithm byte of a key (C2SP signed-note, "Signature types")."""

HASHED: Final = b"\xffaffidavit/note-sha256/v1"
"""The same for a signature over the text's SHA-256: the type for what has no byte of its own."""
PLAIN_MAX_BYTES: Final = 4096
"""The longest text that is signed itself. AWS KMS takes no more."""

_KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 33
_DASH: Final = "\u2014"


class Signer(Protocol):
    """Who signs: `ext_proc.audit.signer`."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        ...

    def sign(self, data: bytes) -> bytes:
        """64 bytes, the same for the same data.

        Raises:
            AuditUnavailable: the key cannot be used now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart; nothing about it is verified yet."""

    text: str
    signatures: tuple[Signature, ...]


def key_id(name: str, public_key: bytes, kind: bytes = ED25519) -> bytes:
    """Four bytes that hint at the key: it depends on the name and on the signature's type too."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:_KEY_ID_BYTES]


def signed_message(text: bytes) -> tuple[bytes, bytes]:
    """The type of a note's signatures, and what they are of."""
    if len(text) <= PLAIN_MAX_BYTES:
        return ED25519, text
    return HASHED, f"affidavit note-sha256 v1\n{hashlib.sha256(text).hexdigest()}\n".encode()


def vkey_of(name: str, public_key: bytes) -> str:
    """The key in the form that verifiers of others take."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(ED25519 + public_key).decode()}"


def public_key_of(vkey: str) -> bytes:
    """The 32 bytes of a key in that form.

    Raises:
        IntegrityError: it is none.
    """
    try:
        key = base64.b64decode(vkey.split("+", 2)[2], validate=True)
    except (IndexError, ValueError):
        raise IntegrityError("not a verifier key") from None
    if len(key) != _KEY_BYTES or key[:1] != ED25519:
        raise IntegrityError("not a verifier key")
    return key[1:]


def sign(text: str, name: str, *signers: Signer) -> str:
    """The note of ``text``, signed by each of ``signers`` under ``name``.

    Raises:
        AuditUnavailable: a key cannot be used now.
    """
    if not text.endswith("\n"):
        raise IntegrityError("note without newline")
    lines = [f"{_DASH} {name} {_signature(text, name, signer)}\n" for signer in signers]
    return f"{text}\n{''.join(lines)}"


def sign_json(fields: Mapping[str, Any], name: str, *signers: Signer) -> bytes:
    """The note whose text is one line of canonical JSON."""
    return sign(canonical(fields).decode() + "\n", name, *signers).encode()


def _signature(text: str, name: str, signer: Signer) -> str:
    kind, message = signed_message(text.encode())
    return base64.b64encode(key_id(name, signer.public_key, kind) + signer.sign(message)).decode()


def open_note(raw: str) -> Note:
    """Take a note apart.

    Raises:
        IntegrityError: it is not a note.
    """
    text, divider, rest = raw.rpartition("\n\n")
    if not divider or not rest.endswith("\n"):
        raise IntegrityError("not a note")
    signatures: list[Signature] = []
    for line in rest[:-1].split("\n"):
        dash, _, said = line.partition(" ")
        name, _, encoded = said.partition(" ")
        try:
            whole = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise IntegrityError("not a note") from None
        if dash != _DASH or not name or len(whole) <= _KEY_ID_BYTES:
            raise IntegrityError("not a note")
        signatures.append(Signature(name, whole[:_KEY_ID_BYTES], whole[_KEY_ID_BYTES:]))
    return Note(text + "\n", tuple(signatures))


def is_signed(note: Note, name: str, public_key: bytes) -> bool:
    """Does a signature of ``note`` under ``name`` verify with ``public_key``?"""
    kind, message = signed_message(note.text.encode())
    wanted = key_id(name, public_key, kind)
    for one in note.signatures:
        if one.name == name and one.key_id == wanted:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(one.signature, message)
            except InvalidSignature:
                return False
            return True
    return False


def json_of(note: Note) -> dict[str, Any]:
    """The object that the note's text is.

    Raises:
        IntegrityError: it is none.
    """
    try:
        told = json.loads(note.text)
    except ValueError:
        raise IntegrityError("note text") from None
    if not isinstance(told, dict):
        raise IntegrityError("note text")
    return told


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def read_checkpoint(note: Note) -> tuple[str, int, bytes]:
    """Origin, size and root hash.

    Raises:
        IntegrityError: it is no checkpoint.
    """
    lines = note.text.split("\n")
    try:
        origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError, binascii.Error):
        raise IntegrityError("not a checkpoint") from None
    return origin, size, root
