"""Keys of the evidence: payloads are unreadable without them, and one person's can be destroyed without the others'.

A payload is encrypted (AES-256-GCM) with a random key of its record; that key is wrapped by the data subject's random
key, which is kept, wrapped by the key-encryption key, in the registry (`ext_proc.audit.registry`). Subject keys are
random, not derived: what can be derived again cannot be destroyed.

After an erasure the subject's next payload gets a key of the next generation; what older generations sealed stays
unreadable. A process that had the destroyed key in memory may go on sealing with it for `KEPT_SECONDS`, never longer:
nobody can read what it sealed so, and an erasure is called complete only after that time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ext_proc.audit.key_files import KEY_BYTES, create_key_files, read_key
from ext_proc.audit.record import media_type
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.database import sqlite_url
from ext_proc.errors import AuditUnavailable, GateError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ext_proc.audit.registry import Registry, SubjectKey, Tombstone
    from ext_proc.model import Identity, Payload

__all__ = ["KEPT_SECONDS", "KEY_BYTES", "NOBODY", "KeyRing", "Shredded", "create_key_files", "read_key"]

KEPT_SECONDS: Final = 5.0
"""How long a key is used from memory before the registry is asked again whether any was destroyed."""
NOBODY: Final = "nobody"
"""The subject of payloads whose sender was never identified."""

_NONCE_BYTES: Final = 12
_KEPT_SUBJECTS: Final = 4096
_TRIES: Final = 8
_TOKENS: Final = b"affidavit tokens v1"
_LABEL: Final = re.compile(r"subject:([a-z0-9:-]{1,128})#([1-9][0-9]{0,8})")


class Shredded(GateError):
    """The payload's key was destroyed by a recorded erasure: nobody can read it any more, and that is as it should be.

    ``origin`` and ``sequence`` name the record ``erasure.completed``; while that is not written (``is_complete`` is
    false: run the erasure again), ``erasure.requested``. The registry says so: look the record up before believing it.
    """

    code = "shredded"
    http_status = 410
    client_text = "The content was erased."

    def __init__(self, tombstone: Tombstone) -> None:
        self.is_complete = tombstone.completed is not None
        place = tombstone.completed or tombstone.requested
        self.origin, self.sequence = place.origin, place.sequence
        super().__init__(f"shredded by record {place.sequence} of {place.origin}")


@dataclass(frozen=True, slots=True)
class _Kept:
    label: str
    key: AESGCM
    tokens: bytes


class KeyRing:
    """Encrypts and decrypts payloads, and makes references to people. Safe to use from several threads.

    Args:
        key_encryption_key: 32 bytes that wrap the subjects' keys.
        pepper: 32 bytes of the keyed references.
        registry: of wrapped subject keys; several processes may share it.
        ticks: seconds that never go back.
    """

    def __init__(
        self, key_encryption_key: bytes, pepper: bytes, registry: Registry, ticks: Callable[[], float] = monotonic
    ) -> None:
        self.registry: Final = registry
        self._wrapper = AESGCM(key_encryption_key)
        self._pepper = pepper
        self._ticks = ticks
        self._lock = Lock()  # guards the three below when they change; never held while the database is asked
        self._kept: dict[str, _Kept] = {}
        self._checked_at = float("-inf")
        self._erasures = -1
        self._subjects: dict[tuple[str, str, str], str] = {}

    @classmethod
    def from_files(cls, key_encryption_key_file: Path, pepper_file: Path, registry: Path) -> KeyRing:
        """Read the keys; the registry is an SQLite file.

        Raises:
            ConfigError: a file cannot be read or does not hold 32 bytes.
            AuditUnavailable: the registry cannot be opened.
        """
        return cls.from_url(key_encryption_key_file, pepper_file, sqlite_url(registry))

    @classmethod
    def from_url(
        cls, key_encryption_key_file: Path, pepper_file: Path, url: str, password_file: Path | None = None
    ) -> KeyRing:
        """Read the keys; the registry is a database (see `database.open_engine`).

        Raises:
            ConfigError: a file cannot be read or does not hold 32 bytes, or the URL is not of a registry.
            AuditUnavailable: the registry cannot be opened.
        """
        keys = read_key(key_encryption_key_file), read_key(pepper_file)
        return cls(*keys, SqlRegistry.from_url(url, password_file))

    def reference(self, *parts: str) -> str:
        """A keyed reference: equal parts give equal references, and only a holder of the pepper can try guesses."""
        # JSON, not a joint with separators: ("a", "b|c") and ("a|b", "c") are two people. It takes any text at all.
        digest = hmac.new(self._pepper, json.dumps(parts).encode(), hashlib.sha256)
        return f"hmac-sha256:{digest.hexdigest()}"

    def subject_reference(self, identity: Identity | None) -> str:
        """The reference of the person or service that calls."""
        if identity is None:
            return NOBODY
        return self.person_reference(identity.issuer, identity.tenant, identity.subject)

    def person_reference(self, issuer: str, tenant: str | None, subject: str) -> str:
        """The reference of somebody named in clear."""
        who = (issuer, tenant or "", subject)
        known = self._subjects.get(who)
        if known is None:
            if len(self._subjects) >= _KEPT_SUBJECTS:
                self._subjects.clear()
            known = self._subjects[who] = self.reference("subject", *who)
        return known

    def encrypt(
        self, subject_ref: str, payloads: Sequence[Payload], binding: str
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Encrypt one record's payloads.

        Returns:
            What the leaf says of each, and the ciphertexts (nonce, ciphertext, tag) in the same order.

        Raises:
            AuditUnavailable: the registry of keys cannot be used.
        """
        if not payloads:
            return [], []
        random = os.urandom(KEY_BYTES + _NONCE_BYTES * (1 + len(payloads)))  # one system call a record
        data_key, nonces = random[:KEY_BYTES], random[KEY_BYTES:]
        cipher = AESGCM(data_key)
        nonce = nonces[:_NONCE_BYTES]
        subject = self._subject_key(subject_ref)
        wrapped = nonce + subject.key.encrypt(nonce, data_key, binding.encode())
        wrapped_text = base64.b64encode(wrapped).decode()
        told: list[dict[str, Any]] = []
        sealed: list[bytes] = []
        for index, payload in enumerate(payloads, 1):
            nonce = nonces[index * _NONCE_BYTES : (index + 1) * _NONCE_BYTES]
            ciphertext = nonce + cipher.encrypt(nonce, payload.body, f"{binding}|{payload.role}".encode())
            sealed.append(ciphertext)
            told.append(
                {
                    "role": payload.role,
                    "ciphertext_sha256": hashlib.sha256(ciphertext).hexdigest(),
                    "ciphertext_bytes": len(ciphertext),
                    "plaintext_bytes": len(payload.body),
                    "algorithm": "A256GCM",
                    "key": subject.label,
                    "wrapped_data_key": wrapped_text,
                    "content_type": media_type(payload.content_type),
                }
            )
        return told, sealed

    def decrypt(self, told: dict[str, Any], ciphertext: bytes, binding: str) -> bytes:
        """One payload in clear. The registry is asked each time: a destroyed key opens nothing from then on.

        Raises:
            Shredded: the key was destroyed by a recorded erasure.
            IntegrityError: the ciphertext is not the one that the leaf commits to, or the key is another, or gone
                without an erasure that explains it.
            AuditUnavailable: the registry cannot be used.
        """
        return self._decrypted(told, ciphertext, binding, self._past_key)

    def opener(self) -> Opener:
        """For who reads thousands: it asks the registry for a key once in `KEPT_SECONDS`, not for each payload."""
        return Opener(self, self._ticks)

    def _decrypted(
        self, told: dict[str, Any], ciphertext: bytes, binding: str, past_key: Callable[[str, int], AESGCM]
    ) -> bytes:
        if hashlib.sha256(ciphertext).hexdigest() != told["ciphertext_sha256"]:
            raise IntegrityError("ciphertext is not the leaf's")
        named = _LABEL.fullmatch(told["key"])
        if named is None:
            raise IntegrityError("payload names no subject key")
        wrapped = base64.b64decode(told["wrapped_data_key"])
        key = past_key(named[1], int(named[2]))
        try:
            data_key = key.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], binding.encode())
            bound = f"{binding}|{told['role']}".encode()
            return AESGCM(data_key).decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], bound)
        except InvalidTag:
            raise IntegrityError("payload does not decrypt") from None

    def refresh(self) -> None:
        """Ask the registry whether any key was destroyed since; if so, forget all that are kept.

        `encrypt` does it itself every `KEPT_SECONDS`. Called more often from a thread, it keeps that question out of
        the way of calls.

        Raises:
            AuditUnavailable: the registry cannot be used. Kept keys then serve until they are `KEPT_SECONDS` old.
        """
        asked_at = self._ticks()
        erasures = self.registry.erasure_count()
        with self._lock:
            if erasures != self._erasures:
                self._kept.clear()
            self._erasures, self._checked_at = erasures, max(asked_at, self._checked_at)

    def prepare(self, subject_ref: str) -> None:
        """Fetch or make the subject's key, so that the next `encrypt` need not. For a thread.

        Raises:
            AuditUnavailable: the registry of keys cannot be used.
        """
        self._subject_key(subject_ref)

    def is_prepared(self, subject_ref: str) -> bool:
        """Would `encrypt` do without the registry now?"""
        return subject_ref in self._kept and self._ticks() - self._checked_at < KEPT_SECONDS

    def token_key(self, subject_ref: str) -> bytes:
        """The key of the subject's tokens, derived from theirs, so that an erasure takes it too. For a thread.

        As for payloads, a destroyed key may go on being used from memory for `KEPT_SECONDS`, never longer.

        Raises:
            AuditUnavailable: the registry of keys cannot be used.
        """
        return self._subject_key(subject_ref).tokens

    def _subject_key(self, subject_ref: str) -> _Kept:
        if self._ticks() - self._checked_at >= KEPT_SECONDS:
            self.refresh()
        kept = self._kept.get(subject_ref)
        if kept is not None:
            return kept
        erasures = self._erasures
        kept = self._fetch(subject_ref)
        with self._lock:
            if erasures == self._erasures:  # else it may have been destroyed after it was fetched
                if len(self._kept) >= _KEPT_SUBJECTS:
                    self._kept.clear()
                self._kept[subject_ref] = kept
        return kept

    def _fetch(self, subject_ref: str) -> _Kept:
        """The living key. Several processes may race to make it: the first wins, all read the winner's."""
        found = self.registry.newest(subject_ref)
        for _ in range(_TRIES):
            if found is not None and found.wrapped is not None:
                raw = self._unwrap(subject_ref, found, found.wrapped)
                return _Kept(_label(subject_ref, found.generation), _cipher(raw), _derived(raw, _TOKENS))
            generation = found.generation + 1 if found is not None else 1
            nonce = os.urandom(_NONCE_BYTES)
            name = _label(subject_ref, generation).encode()
            wrapped = nonce + self._wrapper.encrypt(nonce, AESGCM.generate_key(256), name)
            self.registry.add(subject_ref, generation, wrapped)
            found = self.registry.newest(subject_ref)
        raise AuditUnavailable("key_registry: keys are destroyed as fast as they are made")

    def _past_key(self, subject_ref: str, generation: int) -> AESGCM:
        found = self.registry.key(subject_ref, generation)
        if found is not None and found.wrapped is not None:
            return _cipher(self._unwrap(subject_ref, found, found.wrapped))
        if found is not None and found.tombstone is not None:
            raise Shredded(found.tombstone)
        raise IntegrityError("subject key is gone, and no erasure explains it")

    def _unwrap(self, subject_ref: str, found: SubjectKey, wrapped: bytes) -> bytes:
        name = _label(subject_ref, found.generation).encode()  # a key that was moved to another row does not open
        try:
            return self._wrapper.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], name)
        except (InvalidTag, ValueError):
            raise AuditUnavailable("key_encryption_key") from None


class Opener:
    """`KeyRing.decrypt` for many payloads. As for those that are sealed, a destroyed key may go on being used from
    memory for `KEPT_SECONDS`, never longer. Of one thread.
    """

    def __init__(self, ring: KeyRing, ticks: Callable[[], float]) -> None:
        self._ring = ring
        self._ticks = ticks
        self._keys: dict[tuple[str, int], AESGCM] = {}
        self._since = float("-inf")

    def decrypt(self, told: dict[str, Any], ciphertext: bytes, binding: str) -> bytes:
        """See `KeyRing.decrypt`."""
        return self._ring._decrypted(told, ciphertext, binding, self._past_key)  # noqa: SLF001 - its other half

    def _past_key(self, subject_ref: str, generation: int) -> AESGCM:
        now = self._ticks()
        if now - self._since >= KEPT_SECONDS or len(self._keys) >= _KEPT_SUBJECTS:
            self._keys.clear()
            self._since = now
        key = self._keys.get((subject_ref, generation))
        if key is None:
            key = self._keys[subject_ref, generation] = self._ring._past_key(subject_ref, generation)  # noqa: SLF001 - as above
        return key


def _cipher(key: bytes) -> AESGCM:
    try:
        return AESGCM(key)
    except ValueError:
        raise AuditUnavailable("key_encryption_key") from None


def _derived(key: bytes, purpose: bytes) -> bytes:
    """Another key, which tells nothing of this one."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def _label(subject_ref: str, generation: int) -> str:
    return f"subject:{subject_ref}#{generation}"
