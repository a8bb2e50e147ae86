"""C2SP tlog-witness, the client: others sign that they saw our tree grow, and never two trees of one name.

A witness keeps the last size of each log that it cosigned. We send the checkpoint with a proof from that size; it
answers with a cosignature (``cosignature/v1``, Ed25519: a time, and a signature over it and the checkpoint). An answer
counts only after it verified here. A witness that fails is no reason to stop: the caller asks again with its next
checkpoint.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ext_proc.audit.post import Reply, Unreachable, post
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Proof = Callable[[int, int], Sequence[bytes]]
    """RFC 6962 consistency proof of the caller's tree, from the old size to the new one."""

DEADLINE_SECONDS: Final = 10.0
_KEY_TYPE: Final = 0x04  # C2SP tlog-cosignature: timestamped Ed25519 checkpoint cosignatures
_DASH: Final = "\u2014 "
_LATEST: Final = 253402300799  # the end of the year 9999: a later time is no time
_PROOF_MAX_LINES: Final = 63
_REASONS: Final[Mapping[int, str]] = {
    400: "witness_bad_request",
    403: "witness_key_unknown",
    404: "witness_log_unknown",
    409: "witness_conflict",
    422: "witness_inconsistent",
}


class CosignatureInvalid(Exception):
    """Not a cosignature of this checkpoint by this witness. The message is a stable word of ours."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's public key, as an auditor pins it."""

    name: str
    key_id: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Witness:
    """Where a witness listens (what stands before ``/add-checkpoint``), and its key."""

    url: str
    key: WitnessKey


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: the whole signature line without its line end, and when the witness made it."""

    name: str
    at: datetime
    line: str


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What asking the witnesses came to.

    Args:
        note: the checkpoint with the cosignatures' lines: bytes of the ``cosigned`` object.
        cosignatures: those that verified, one a witness.
        failures: ``name: code`` of the others.
        has_quorum: are there enough?
    """

    note: bytes
    cosignatures: tuple[Cosignature, ...]
    failures: tuple[str, ...]
    has_quorum: bool


class Witnesses:
    """Asks all the configured witnesses. One thread at a time; remembers the size that each has of each log.

    Args:
        witnesses: each with its own key.
        quorum: how many cosignatures are enough.
        deadline_seconds: for each request.

    Raises:
        ConfigError: the same key twice, or a quorum that cannot be met.
    """

    def __init__(self, witnesses: Sequence[Witness], quorum: int, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        if len({one.key.public_key for one in witnesses}) != len(witnesses):
            raise ConfigError("witnesses: two have the same key; a witness counts once")
        if not 0 <= quorum <= len(witnesses):
            raise ConfigError(f"witnesses: a quorum of {quorum} cannot be met by {len(witnesses)}")
        self._witnesses = tuple(witnesses)
        self._quorum = quorum
        self._deadline_seconds = deadline_seconds
        self._sizes: dict[tuple[str, str], int] = {}

    def cosign(self, checkpoint: bytes, proof: Proof) -> Cosigned:
        """Have a checkpoint cosigned. Blocks; a witness that fails raises nothing.

        Args:
            checkpoint: the signed note.
            proof: called with the size that a witness has and the checkpoint's.
        """
        made: list[Cosignature] = []
        failures: list[str] = []
        for witness in self._witnesses:
            try:
                made.append(self._ask(witness, checkpoint, proof))
            except (Unreachable, CosignatureInvalid, _Refused) as error:
                failures.append(f"{witness.key.name}: {error}")
        note = checkpoint + "".join(f"{one.line}\n" for one in made).encode()
        return Cosigned(note, tuple(made), tuple(failures), len(made) >= self._quorum)

    def _ask(self, witness: Witness, checkpoint: bytes, proof: Proof) -> Cosignature:
        """One witness; a second time if it has another size than we remember.

        Raises:
            Unreachable: no answer.
            CosignatureInvalid: an answer that does not verify.
            _Refused: another answer.
        """
        origin, size = _origin_and_size(checkpoint)
        place = (witness.key.name, origin)
        old = min(self._sizes.get(place, 0), size)
        reply = self._send(witness, checkpoint, old, proof)
        if reply.status == 409:
            old = _its_size(reply.body)
            if old > size:
                # It saw more of this log than there is: the log was cut, or somebody else signs with our key.
                raise _Refused("witness_is_ahead")
            reply = self._send(witness, checkpoint, old, proof)
        if reply.status != 200:
            raise _Refused(_REASONS.get(reply.status, f"http_{reply.status}"))
        cosignature = _find(checkpoint, reply.body, witness.key)
        self._sizes[place] = size
        return cosignature

    def _send(self, witness: Witness, checkpoint: bytes, old: int, proof: Proof) -> Reply:
        _, size = _origin_and_size(checkpoint)
        hashes = list(proof(old, size)) if 0 < old < size else []
        if len(hashes) > _PROOF_MAX_LINES:
            raise _Refused("proof_too_long")
        lines = [f"old {old}", *(base64.b64encode(one).decode() for one in hashes), "", ""]
        url = f"{witness.url.rstrip('/')}/add-checkpoint"
        return post(url, "\n".join(lines).encode() + checkpoint, "text/plain; charset=utf-8", self._deadline_seconds)


class _Refused(Exception):
    """The witness said no; the message is a stable word of ours."""


def parse_witness_key(vkey: str) -> WitnessKey:
    """A key in the form of C2SP signed-note, ``<name>+<key id>+<base64>``, of type 0x04.

    Raises:
        ConfigError: it is not.
    """
    name, _, rest = vkey.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        key = base64.b64decode(encoded, validate=True)
        said = bytes.fromhex(key_id)
    except ValueError:
        raise ConfigError(f"witness key {name!r}: not <name>+<8 hex digits>+<base64>") from None
    if len(key) != 33 or key[0] != _KEY_TYPE:
        raise ConfigError(f"witness key {name!r}: not an Ed25519 cosignature key (type 0x04)")
    if not name or name.split() != [name] or said != sha256(name.encode() + b"\n" + key).digest()[:4]:
        raise ConfigError(f"witness key {name!r}: the key id is not this name's and key's; was it copied whole?")
    return WitnessKey(name, said, key[1:])


def verify_cosignature(text: bytes, line: str, key: WitnessKey) -> Cosignature:
    """Verify one signature line.

    Args:
        text: the checkpoint's text, with its last line end, without the empty line.
        line: without its line end.
        key: whose it must be.

    Raises:
        CosignatureInvalid: it does not verify.
    """
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or name != key.name:
        raise CosignatureInvalid("cosignature_of_another")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise CosignatureInvalid("cosignature_unreadable") from None
    if blob[:4] != key.key_id:
        raise CosignatureInvalid("cosignature_of_another")
    if len(blob) != 4 + 8 + 64:
        raise CosignatureInvalid("cosignature_unreadable")
    seconds = int.from_bytes(blob[4:12], "big")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(
            blob[12:], f"cosignature/v1\ntime {seconds}\n".encode() + text
        )
    except (InvalidSignature, ValueError):
        raise CosignatureInvalid("cosignature_invalid") from None
    if not 0 < seconds <= _LATEST:
        raise CosignatureInvalid("cosignature_without_time")
    return Cosignature(name, datetime.fromtimestamp(seconds, UTC), line)


def cosignatures_of(note: bytes, keys: Sequence[WitnessKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of a note that verify, at most one a key: whether they are a quorum is their number.

    Lines by others (the log's own among them) are left alone.
    """
    text, _, signatures = note.rpartition(b"\n\n")
    lines = signatures.decode(errors="replace").split("\n")
    found: dict[bytes, Cosignature] = {}
    for key in keys:
        for line in lines:
            try:
                found.setdefault(key.public_key, verify_cosignature(text + b"\n", line, key))
            except CosignatureInvalid:
                continue
    return tuple(found.values())


def _find(checkpoint: bytes, body: bytes, key: WitnessKey) -> Cosignature:
    """The witness's cosignature among the lines of its answer: it may send those of its other keys along.

    Raises:
        CosignatureInvalid: there is none that verifies.
    """
    text = checkpoint.rpartition(b"\n\n")[0] + b"\n"
    error = CosignatureInvalid("cosignature_missing")
    for line in body.decode(errors="replace").split("\n"):
        try:
            return verify_cosignature(text, line, key)
        except CosignatureInvalid as why:
            if str(why) != "cosignature_of_another":
                error = why
    raise error


def _origin_and_size(checkpoint: bytes) -> tuple[str, int]:
    origin, size, _ = checkpoint.decode().split("\n", 2)
    return origin, int(size)


def _its_size(body: bytes) -> int:
    text = body.removesuffix(b"\n")
    if not (text.isdigit() and len(text) < 20):
        raise _Refused("witness_conflict")
    return int(text)
