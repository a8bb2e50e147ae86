"""Which policy decided since when, what differs, what was not taken, and what a candidate would do: as records tell it.

A record names a bundle by its digest. The console keeps a copy of each that it finds in use, and fetches others out of
the bucket, once; of those that are nowhere it says that it does not know how they differ.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from ext_proc import files
from ext_proc.app.authoring.archived_bundles import NoBundle, bytes_of
from ext_proc.console.seen import Activation, Activations, BundleRefused, Difference, ShadowSeen
from ext_proc.errors import ConfigError
from ext_proc.evidence.versions import EvidenceError
from ext_proc.policy.bundle import members_of, read_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ext_proc.evidence.index import Index, PolicyNote, PolicySeen
    from ext_proc.evidence.names import LogName
    from ext_proc.evidence.versions import VersionedStore

SHOWN_MAX: Final = 100
_SEEN_MAX: Final = 5_000
_KEPT_MAX: Final = 100
_FILE_MAX_BYTES: Final = 1 << 20
_BUNDLE_MAX_BYTES: Final = 32 << 20
_LINES_MAX: Final = 500
_UNTOLD: Final = (".manifest", ".signatures.json")


class Bundles:
    """Copies of bundles, by digest.

    Args:
        folder: of the console.
        current: the file that is in use.
        fetch: a bundle out of the bucket, by digest; None: it is not there.
    """

    def __init__(self, folder: Path, current: Path, fetch: Callable[[str], bytes | None] = lambda _: None) -> None:
        self._folder = folder / "bundles"
        self._current = current
        self._fetch = fetch
        self._missing: set[str] = set()

    def keep_current(self) -> None:
        """Keep a copy of the one that is in use, if there is none yet. What cannot be kept is not there later."""
        try:
            raw = read_file(self._current)
            self._keep(raw, hashlib.sha256(raw).hexdigest())
        except OSError:
            return

    def _keep(self, raw: bytes, digest: str) -> None:
        path = self._path(digest)
        if not path.exists() and len(raw) <= _BUNDLE_MAX_BYTES:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.replace(path, raw, is_durable=False)
            kept = sorted(self._folder.glob("*.tar.gz"), key=lambda one: one.stat().st_mtime)
            for one in kept[:-_KEPT_MAX]:
                one.unlink(missing_ok=True)

    def _bring(self, digest: str) -> None:
        """Out of the bucket; what is not there is not looked for again."""
        if self._path(digest).exists() or digest in self._missing:
            return
        try:
            raw = self._fetch(digest)
        except EvidenceError:  # another time
            return
        if raw is None:
            if len(self._missing) >= _SEEN_MAX:
                self._missing.clear()
            self._missing.add(digest)
        else:
            self._keep(raw, digest)

    def differences(self, digest: str, before: str) -> tuple[Difference, ...] | None:
        """How a bundle differs from the one before; None: one of them is not at hand."""
        new, old = self._files(digest), self._files(before)
        if new is None or old is None:
            return None
        return tuple(
            _difference(name, old.get(name), new.get(name))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        )

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.tar.gz"

    def _files(self, digest: str) -> dict[str, bytes] | None:
        """What is in it. A copy that is not what its name says is none."""
        if len(digest) != 64 or not digest.isalnum():
            return None
        try:
            self._bring(digest)
            raw = self._path(digest).read_bytes()
            if hashlib.sha256(raw).hexdigest() != digest:
                return None
            found = members_of(raw)
        except (OSError, ConfigError):
            return None
        return {
            name: content for name, content in found.items() if name not in _UNTOLD and len(content) <= _FILE_MAX_BYTES
        }


def out_of(store: VersionedStore) -> Callable[[str], bytes | None]:
    """How to fetch a bundle from there: what is not what its name says is not there."""

    def fetch(digest: str) -> bytes | None:
        try:
            return bytes_of(store, digest)
        except NoBundle:
            return None

    return fetch


def activations_of(index: Index, bundles: Bundles, gateway: str) -> Activations:
    """The newest first.

    Raises:
        EvidenceError: there is no index yet, or it cannot be read.
    """
    bundles.keep_current()
    changes: list[PolicySeen] = []
    for one in reversed(index.policies(_SEEN_MAX)):
        # Several logs tell of one change: each worker has its own.
        if not changes or changes[-1].digest != one.digest:
            changes.append(one)
    archived: dict[str, PolicyNote] = {}
    for note in index.policy_notes("activated", _SEEN_MAX):
        archived[note.digest] = note  # the first one stays: they come the newest first
    first = max(0, len(changes) - SHOWN_MAX)
    made = [
        _activation(one, changes[number - 1] if number else None, archived.get(one.digest), bundles, gateway)
        for number, one in enumerate(changes[first:], first)
    ]
    if made:
        made[-1] = replace(made[-1], is_current=True)
    refused = [
        BundleRefused(one.at, one.digest, one.reason or "", one.number, _origin(gateway, one.log))
        for one in index.policy_notes("refused", SHOWN_MAX)
    ]
    shadows = [
        ShadowSeen(
            one.digest or None, one.revision or None, one.effect, one.calls, one.first_at, one.last_at, one.example
        )
        for one in index.shadows(SHOWN_MAX)
    ]
    return Activations(tuple(reversed(made)), tuple(refused), tuple(shadows))


def _activation(
    one: PolicySeen, before: PolicySeen | None, archived: PolicyNote | None, bundles: Bundles, gateway: str
) -> Activation:
    return Activation(
        one.at,
        one.revision,
        one.digest,
        _origin(gateway, one.log),
        is_current=False,
        differences=bundles.differences(one.digest, before.digest) if before else None,
        archived_at=archived.at if archived else None,
        number=archived.number if archived else None,
        key_id=archived.key_id if archived else None,
    )


def _origin(gateway: str, log: LogName) -> str:
    return f"{gateway}/{log.replica}/{log.epoch}"


def _difference(name: str, old: bytes | None, new: bytes | None) -> Difference:
    before, after = (one.decode(errors="replace").splitlines() if one is not None else [] for one in (old, new))
    lines = list(difflib.unified_diff(before, after, "before", "now", lineterm=""))[2:]
    if len(lines) > _LINES_MAX:
        lines = [*lines[:_LINES_MAX], f"... and {len(lines) - _LINES_MAX} more lines"]
    change: Literal["added", "removed", "changed"] = "added" if old is None else "removed" if new is None else "changed"
    return Difference(name, change, tuple(lines))
