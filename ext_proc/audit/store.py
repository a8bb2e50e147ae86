"""Where evidence is kept: what the shipper needs of a store, and does not believe before it has read it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


class StoreUnavailable(Exception):
    """No answer, or an error that may pass: try again later. Nothing is known of what was written."""


class StoreRefused(Exception):
    """The store said no for good (access denied, no such bucket): a person must look."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store gives it back: SHA-256 of the bytes read (lower-case hex), lock mode and its end."""

    sha256: str
    size_bytes: int
    lock_mode: str | None
    retain_until: datetime | None
    version: str | None


class Store(Protocol):
    """An object store with Object Lock. Methods block; safe to call from several threads."""

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """Create ``key`` unless it exists. Durable when it returns; idempotent; the caller retries.

        An object that is there already is no error: the caller reads back and compares.

        Raises:
            StoreUnavailable: the outcome is not known.
            StoreRefused: the store does not let us.
        """
        ...

    def read_back(self, key: str) -> Stored | None:
        """The object's bytes, read and hashed here, and its lock; None if there is none.

        Raises:
            StoreUnavailable: no answer.
            StoreRefused: the store does not let us.
        """
        ...

    def fetch(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            StoreUnavailable: no answer, or no such object.
            StoreRefused: the store does not let us.
        """
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that begin with ``prefix``, in order.

        Raises:
            StoreUnavailable: no answer.
            StoreRefused: the store does not let us.
        """
        ...
