"""Which bundle OPA is given, and what it made of it. Pure: whoever publishes, polls and serves tells it what happened.

 1. A file is `considered`. What is no bundle, or none in the line of those that were accepted, is refused at once: a
    number that does not grow is a way back to rules that somebody had reason to change.
 2. Else it is offered: OPA fetches it, checks its signature, and says what came of it (`heard`).
 3. Activated: it is accepted, and the floor for the next number. An error: it is refused, and the one before is offered
    again, so that an OPA that is started anew gets that. OPA itself went on with it all the time.

A bundle is known by its bytes: what was refused is not looked at again until others come.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.bundle import OddArchive, read_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLE: Final = "policy"
"""What the bundle is called in OPA's configuration and its status."""

# What OPA 1.22 says, and the code that stands in the record. The words are for people: another OPA may have others.
_SAID: Final = (
    ("missing .signatures.json", "unsigned"),
    ("missing JWT", "unsigned"),
    ("not included in bundle signature", "extra_file"),
    ("digest mismatch", "tampered"),
    ("specified in bundle signatures but not found", "missing_file"),
    ("verification key", "wrong_key"),
    ("verif", "wrong_key"),
    ("signature", "wrong_key"),
)
_NOT_LOADED: Final = "not_loaded"
_UNFETCHED: Final = "request failed"
REASONS: Final = (
    "unreadable", "odd_archive", "unnumbered", "older", "number_reused", "revision_reused",
    *dict.fromkeys(code for _, code in _SAID), _NOT_LOADED, "other_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle in the line: its revision, number and digest (`model.PolicyVersion` and a place)."""

    revision: str
    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle that is not taken. ``said``: OPA's own words, for the log of operations only."""

    digest: str
    reason: str
    number: int | None = None
    said: str = ""


class Publishing:
    """See above. Not safe for concurrent use.

    Args:
        accepted: what was accepted last, in an earlier life.
    """

    def __init__(self, accepted: Offer | None = None) -> None:
        self.accepted = accepted
        self.offered: Offer | None = None
        self.refused: Refusal | None = None
        """Stands until another bundle is accepted, or the accepted one is back in its place."""
        self._was_given = False
        self._before: Offer | None = None

    @property
    def serving(self) -> Offer | None:
        """What OPA is given."""
        return self.offered or self.accepted

    def consider(self, raw: bytes) -> Refusal | None:
        """A file lies where bundles are published. A refusal is told once."""
        digest = hashlib.sha256(raw).hexdigest()
        if self.accepted is not None and digest == self.accepted.digest:
            self.offered = self.refused = None
            return None
        if digest in (one.digest for one in (self.offered, self.refused) if one is not None):
            return None
        self.offered = None
        try:
            facts = read_facts(raw)
        except OddArchive:
            return self._refuse(Refusal(digest, "odd_archive"))
        except ConfigError:
            return self._refuse(Refusal(digest, "unreadable"))
        reason = self._out_of_line(facts.revision, facts.number)
        if reason is not None or facts.number is None:
            return self._refuse(Refusal(digest, reason or "unnumbered", facts.number))
        self.offered, self._was_given = Offer(facts.revision, facts.number, digest), False
        return None

    def _out_of_line(self, revision: str, number: int | None) -> str | None:
        if number is None:
            return "unnumbered"
        if self.accepted is None:
            return None
        if number < self.accepted.number:
            return "older"
        if number == self.accepted.number:
            return "number_reused"
        return "revision_reused" if revision == self.accepted.revision else None

    def gave(self, digest: str) -> None:
        """OPA fetched it: what it says of errors from here on is about it."""
        self._was_given = self._was_given or (self.offered is not None and digest == self.offered.digest)

    def heard(self, status: Mapping[str, Any]) -> Offer | Refusal | None:
        """What OPA says of itself: is the offer active, or refused? Nothing new: None."""
        told = _of_bundle(status)
        offer = self.offered
        if offer is None or told is None:
            return None
        if told.get("active_revision") == offer.revision:
            self._before, self.accepted, self.offered, self.refused = self.accepted, offer, None, None
            return offer
        if not self._was_given or not told.get("code") or _never_came(told):
            return None
        said = " ".join(str(one) for one in (told.get("message"), told.get("errors")) if one)
        return self._refuse(Refusal(offer.digest, _reason(said), offer.number, said[:500]))

    def mistaken(self, offer: Offer) -> Refusal:
        """What OPA loaded has other bytes than it was given: whatever it is, it is not the offer."""
        if self.accepted == offer:
            self.accepted = self._before
        return self._refuse(Refusal(offer.digest, "other_bytes", offer.number))

    def _refuse(self, refusal: Refusal) -> Refusal:
        self.offered, self.refused = None, refusal
        return refusal


def _of_bundle(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    bundles = status.get("bundles")
    told = bundles.get(BUNDLE) if isinstance(bundles, dict) else None
    return told if isinstance(told, dict) else None


def _never_came(told: Mapping[str, Any]) -> bool:
    """OPA could not fetch anything: it asked before there was an offer, or while we were away. It may say so late, when
    it has the offer already: nothing of that is about the bundle.
    """
    return bool(told.get("http_code")) or str(told.get("message", "")).startswith(_UNFETCHED)


def _reason(said: str) -> str:
    return next((code for words, code in _SAID if words in said), _NOT_LOADED)
