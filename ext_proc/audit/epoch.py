"""What the shipper remembers of an epoch between two segments, and the hourly digest that grows meanwhile.

The state file is written after a segment's objects were read back and before the segment is freed. A crash before: the
segment is there, and the same state makes the same objects again. A crash after: the state's size says that the segment
is done, and it is only freed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files
from ext_proc.audit.merkle import Frontier
from ext_proc.audit.note import sign_json
from ext_proc.audit.seal import SealedObject, named_object, place_of
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.note import Signer
    from ext_proc.audit.seal import Sealed

STATE: Final = "state.json"
HOUR_AND_GRACE: Final = timedelta(hours=1, minutes=5)
DIGEST_SCHEMA: Final = "affidavit/digest/v1"
_PLAIN: Final = ("origin", "roster_sha256", "end", "is_over")


@dataclass(slots=True)
class Draft:
    """The digest that is being filled: the segments of one hour that are in the store."""

    number: int = 0
    previous_sha256: str | None = None
    hour: str | None = None
    first_sequence: int = 0
    first_at: str = ""
    last_at: str = ""
    objects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def after(cls, number: int, digest: bytes) -> Draft:
        """The one that follows the digest ``number``."""
        return cls(number=number + 1, previous_sha256=hashlib.sha256(digest).hexdigest())

    def is_over(self, at: str) -> bool:
        """Does a leaf of ``at`` belong to a later hour? (A clock that was put back stays in the hour that it was.)"""
        return self.hour is not None and at[:13] > self.hour

    def was_over_by(self, now: datetime) -> bool:
        """Is the hour over for so long that nothing more of it is to come?"""
        return self.hour is not None and now >= datetime.fromisoformat(f"{self.hour}:00:00Z") + HOUR_AND_GRACE

    def add(self, sealed: Sealed) -> None:
        """Count a segment that is in the store."""
        if self.hour is None:
            self.hour, self.first_sequence, self.first_at = sealed.first_at[:13], sealed.first, sealed.first_at
        self.last_at = sealed.last_at
        self.objects += [{"key": one.key, "sha256": one.sha256, "bytes": len(one.body)} for one in sealed.objects]
        self.counts.update(sealed.counts)


@dataclass(slots=True)
class EpochState:
    """Everything about one epoch that outlives a segment."""

    frontier: Frontier = field(default_factory=Frontier)
    draft: Draft = field(default_factory=Draft)
    origin: str = ""
    roster_sha256: str | None = None
    end: str | None = None
    is_over: bool = False

    @classmethod
    def load(cls, folder: Path) -> EpochState:
        """The state of the epoch in ``folder``; a new one if nothing was shipped yet.

        Raises:
            IntegrityError: the file does not hold a state.
        """
        try:
            told = json.loads((folder / STATE).read_bytes())
            if told.pop("sha256") != _sha256(told):
                raise IntegrityError("epoch state")
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise IntegrityError("epoch state") from None
        try:
            draft = Draft(**{**told["draft"], "counts": Counter(told["draft"]["counts"])})
            rest = {name: told[name] for name in _PLAIN}
            return cls(Frontier.from_json(told["frontier"]), draft, **rest)
        except (KeyError, TypeError):
            raise IntegrityError("epoch state") from None

    def take_over(self, other: EpochState) -> None:
        """Become ``other``."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def save(self, folder: Path) -> None:
        """Make the state durable."""
        draft = {name: getattr(self.draft, name) for name in Draft.__slots__}
        told = {"frontier": self.frontier.to_json(), "draft": draft, **{name: getattr(self, name) for name in _PLAIN}}
        files.replace(folder / STATE, json.dumps({**told, "sha256": _sha256(told)}))

    def digest(self, signer: Signer, *, is_last: bool) -> SealedObject | None:
        """The signed digest of what was added since the last one; None if that is nothing.

        Raises:
            AuditUnavailable: the signing key cannot be used now.
        """
        draft = self.draft
        if draft.hour is None:
            return None
        body = sign_json(
            {
                "schema": DIGEST_SCHEMA,
                "origin": self.origin,
                "number": draft.number,
                "from": draft.first_at,
                "to": draft.last_at,
                "first_sequence": draft.first_sequence,
                "size": self.frontier.size,
                "root_hash": self.frontier.root().hex(),
                "objects": draft.objects,
                "counts": dict(sorted(draft.counts.items())),
                "previous_sha256": draft.previous_sha256,
                "is_last": is_last,
                "at": draft.last_at,
            },
            self.origin,
            signer,
        )
        place = place_of(self.origin, draft.first_at)
        return named_object(f"v1/digest/{place}/{draft.number:06d}", body, "note")


def _sha256(told: dict[str, Any]) -> str:
    """A disk may spoil a digit, and the state would still be one: a root that no leaves give."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
