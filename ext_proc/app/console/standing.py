"""How the evidence stands: the last verification, the last days' statements of completeness, the newest heads."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.note import is_signed, json_of, open_note
from ext_proc.console import seen
from ext_proc.errors import IntegrityError
from ext_proc.evidence.examine import head_after
from ext_proc.evidence.statement import SCHEMA
from ext_proc.evidence.versions import Absent, fetch, firsts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ext_proc.app.evidence.verification import WholeVerification
    from ext_proc.evidence.index import Index, LogSeen
    from ext_proc.evidence.versions import Version, VersionedStore

RECONCILE: Final = "v1/reconcile/"
DAYS: Final = 14
HEADS: Final = 20
_SHOWN_MAX: Final = 100
_NOTE_MAX_BYTES: Final = 64 << 20
_KEY: Final = re.compile(r"v1/reconcile/dt=(?P<day>\d{4}-\d\d-\d\d)/[0-9a-f]{16}\.note", re.ASCII)


class Standings:
    """Reads it. What was read of a log's head stays until the log grows.

    Args:
        index: of the bucket.
        store: the bucket.
        whole: the verification of the whole bucket.
    """

    def __init__(self, index: Index, store: VersionedStore, whole: WholeVerification) -> None:
        self._index = index
        self._store = store
        self._whole = whole
        self._heads: dict[tuple[str, int], seen.Head] = {}

    def standing(self, gateway: str, keys: Collection[bytes], now: datetime) -> seen.Standing:
        """As it stands now; begins the next verification of the whole, if it is due.

        Raises:
            EvidenceError: the bucket or the index cannot be read.
        """
        verified = self._verified()
        self._whole.begin_if_due()
        return seen.Standing(verified, tuple(self._reconciled(gateway, keys, now)), tuple(self._newest(gateway, keys)))

    def _verified(self) -> seen.Verified | None:
        told = self._whole.last()
        if told is None:
            return None
        findings = tuple(seen.FindingSeen(*one) for one in told.findings[:_SHOWN_MAX])
        return seen.Verified(told.began_at, told.is_ok, told.records, told.logs, findings)

    # Statements ----------------------------------------------------------------------------------------------------

    def _reconciled(self, gateway: str, keys: Collection[bytes], now: datetime) -> Iterator[seen.Reconciled]:
        """Of each day the newest that a key of ours signed, the newest day first."""
        after = f"{RECONCILE}dt={now.astimezone(UTC) - timedelta(days=DAYS):%Y-%m-%d}"
        newest: dict[str, seen.Reconciled] = {}
        for version in firsts(self._store, RECONCILE, after):
            key = _KEY.fullmatch(version.key)
            found = self._statement(version, key["day"], gateway, keys) if key is not None else None
            if found is not None and (found.day not in newest or newest[found.day].at <= found.at):
                newest[found.day] = found
        yield from sorted(newest.values(), key=lambda one: one.day, reverse=True)

    def _statement(self, version: Version, day: str, gateway: str, keys: Collection[bytes]) -> seen.Reconciled | None:
        """None: it is none of ours. That there is such a thing at all the verification says."""
        if version.size_bytes > _NOTE_MAX_BYTES:
            return None
        try:
            note = open_note(fetch(self._store, version).decode())
            told = json_of(note)
            is_ours = (told["schema"], told["gateway"], told["day"]) == (SCHEMA, gateway, day)
            if not is_ours or not any(is_signed(note, gateway, key) for key in keys):
                return None
            at = datetime.fromisoformat(told["at"])
            envoy, audited, orphans = (int(told[name]) for name in ("envoy", "audited", "orphans"))
            explained = _counts(one["class"] for one in told["explained"])
            gaps = _counts(one["code"] for one in told["gaps"])
            return seen.Reconciled(day, at, envoy, audited, orphans, explained, gaps)
        except (Absent, IntegrityError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            return None

    # Heads ---------------------------------------------------------------------------------------------------------

    def _newest(self, gateway: str, keys: Collection[bytes]) -> Iterator[seen.Head]:
        for one in self._index.logs(HEADS):
            origin = f"{gateway}/{one.log.replica}/{one.log.epoch}"
            known = self._heads.get((origin, one.size))
            found = known or self._head(origin, one, keys)
            if found is not None:
                if found.size >= one.size:
                    self._keep((origin, one.size), found)
                yield found

    def _keep(self, place: tuple[str, int], head: seen.Head) -> None:
        if len(self._heads) > _SHOWN_MAX:
            self._heads.clear()
        self._heads[place] = head

    def _head(self, origin: str, log: LogSeen, keys: Collection[bytes]) -> seen.Head | None:
        """Of all its records; where the last object's are not signed for (yet), of those before it."""
        head = head_after(self._store, origin, log.size - 1, keys)
        if head is None and log.last_first:
            head = head_after(self._store, origin, log.last_first - 1, keys)
        return None if head is None else seen.Head(origin, head.size, head.root_hash, log.newest_at, log.ended)


def _counts(names: Any) -> tuple[seen.Count, ...]:
    return tuple(seen.Count(name, count) for name, count in sorted(Counter(map(str, names)).items()))
