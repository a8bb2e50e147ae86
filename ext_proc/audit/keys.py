"""Keys of the evidence: payloads are unreadable without them, and one person's can be destroyed without the others'.

A payload is encrypted (AES-256-GCM) with a random key of its record; that key is wrapped by the data subject's random
key, which is kept, wrapped by the key-encryption key, in a registry (SQLite). Subject keys are random, not derived:
what can be derived again cannot be destroyed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sqlite3
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ext_proc.audit.record import media_type
from ext_proc.errors import AuditUnavailable, ConfigError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.model import Identity, Payload

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEPT_SUBJECTS: Final = 4096
NOBODY: Final = "nobody"
"""The subject of payloads whose sender was never identified."""


class KeyRing:
    """Encrypts and decrypts payloads, and makes references to people. Safe to use from several threads.

    Args:
        key_encryption_key: 32 bytes that wrap the subjects' keys.
        pepper: 32 bytes of the keyed references.
        registry: the SQLite file of wrapped subject keys; several processes may share it.

    Raises:
        ConfigError: the registry cannot be opened.
    """

    def __init__(self, key_encryption_key: bytes, pepper: bytes, registry: Path) -> None:
        self._wrapper = AESGCM(key_encryption_key)
        self._pepper = pepper
        self._lock = Lock()  # guards the database connection and the cache
        self._kept: dict[str, AESGCM] = {}
        self._subjects: dict[tuple[str, str, str], str] = {}
        try:
            self._database = _open_registry(registry)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"key registry {registry}: {error}") from None

    @classmethod
    def from_files(cls, key_encryption_key_file: Path, pepper_file: Path, registry: Path) -> KeyRing:
        """Read the keys.

        Raises:
            ConfigError: a file cannot be read or does not hold 32 bytes.
        """
        return cls(read_key(key_encryption_key_file), read_key(pepper_file), registry)

    def reference(self, *parts: str) -> str:
        """A keyed reference: equal parts give equal references, and only a holder of the pepper can try guesses."""
        # JSON, not a joint with separators: ("a", "b|c") and ("a|b", "c") are two people. It takes any text at all.
        digest = hmac.new(self._pepper, json.dumps(parts).encode(), hashlib.sha256)
        return f"hmac-sha256:{digest.hexdigest()}"

    def subject_reference(self, identity: Identity | None) -> str:
        """The reference of the person or service that calls."""
        if identity is None:
            return NOBODY
        who = (identity.issuer, identity.tenant or "", identity.subject)
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
        wrapped = nonce + self._subject_key(subject_ref).encrypt(nonce, data_key, binding.encode())
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
                    "key": f"subject:{subject_ref}",
                    "wrapped_data_key": wrapped_text,
                    "content_type": media_type(payload.content_type),
                }
            )
        return told, sealed

    def decrypt(self, told: dict[str, Any], ciphertext: bytes, binding: str) -> bytes:
        """One payload in clear.

        Raises:
            IntegrityError: the ciphertext is not the one that the leaf commits to, or the key is another (or gone).
            AuditUnavailable: the registry of keys cannot be used.
        """
        if hashlib.sha256(ciphertext).hexdigest() != told["ciphertext_sha256"]:
            raise IntegrityError("ciphertext is not the leaf's")
        try:
            subject_ref = told["key"].removeprefix("subject:")
            wrapped = base64.b64decode(told["wrapped_data_key"])
            key = self._subject_key(subject_ref, make=False)
            data_key = key.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], binding.encode())
            bound = f"{binding}|{told['role']}".encode()
            return AESGCM(data_key).decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise IntegrityError("payload does not decrypt") from None

    def _subject_key(self, subject_ref: str, *, make: bool = True) -> AESGCM:
        with self._lock:
            kept = self._kept.get(subject_ref)
            if kept is None:
                if len(self._kept) >= _KEPT_SUBJECTS:
                    self._kept.clear()
                kept = self._kept[subject_ref] = self._fetch(subject_ref, make=make)
            return kept

    def _fetch(self, subject_ref: str, *, make: bool) -> AESGCM:
        try:
            if make:  # several processes may race: the first insert wins, all read the winner's
                nonce = os.urandom(_NONCE_BYTES)
                wrapped = nonce + self._wrapper.encrypt(nonce, AESGCM.generate_key(256), subject_ref.encode())
                self._database.execute("INSERT OR IGNORE INTO subject_keys VALUES (?, ?)", (subject_ref, wrapped))
            row = self._database.execute(
                "SELECT wrapped FROM subject_keys WHERE subject_ref = ?", (subject_ref,)
            ).fetchone()
        except sqlite3.Error:
            raise AuditUnavailable("key_registry") from None
        if row is None:
            raise IntegrityError("subject key is gone")
        try:
            return AESGCM(self._wrapper.decrypt(row[0][:_NONCE_BYTES], row[0][_NONCE_BYTES:], subject_ref.encode()))
        except InvalidTag:
            if make:
                raise AuditUnavailable("key_encryption_key") from None
            raise IntegrityError("another key-encryption key") from None


def _open_registry(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite gives its log and index the rights that the file has when they are made: so it is made first, ours alone.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    # A key is on the disk before anything is encrypted with it: a payload without its key is a payload lost.
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS subject_keys (subject_ref TEXT PRIMARY KEY, wrapped BLOB NOT NULL)")
    return database


def read_key(path: Path) -> bytes:
    """32 bytes from a file.

    Raises:
        ConfigError: unreadable, or another size, or readable by everyone.
    """
    try:
        raw = path.read_bytes()
        is_public = path.stat().st_mode & 0o007
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from None
    if len(raw) != KEY_BYTES:
        raise ConfigError(f"key file {path}: {KEY_BYTES} bytes are needed; make them with: head -c 32 /dev/urandom")
    if is_public:
        raise ConfigError(f"key file {path}: others may read it; mend with: chmod 600 {path}")
    return raw


def create_key_files(folder: Path, *names: str) -> list[Path]:
    """Make key files of random bytes, readable by the owner only."""
    made: list[Path] = []
    for name in names:
        path = folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
        made.append(path)
    return made
