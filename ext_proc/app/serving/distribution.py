"""Gives OPA its bundle and hears what became of it: in the shipper's process, beside the shipping.

OPA asks and tells over loopback (`ext_proc.app.serving.bundle_door`). Rounds look whether another file lies where
bundles are published, and put refusals on record. Files are kept by digest in ``state_dir/policy``, so that workers
find the one that decides, and a restart what was accepted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import yaml

from ext_proc import files, telemetry
from ext_proc.app import registry
from ext_proc.errors import ConfigError
from ext_proc.policy.bundle import BUNDLE_MAX_BYTES, SCOPE, read_file
from ext_proc.policy.opa import PERSISTED
from ext_proc.policy.publishing import BUNDLE, Offer, Publishing, Refusal
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ext_proc.config import Config, DistributionSection

_log = telemetry.logger()


def write_opa_config(config: Config, section: DistributionSection) -> Path:
    """OPA's configuration, with the key that it must check signatures with, and the word that it shows to us.

    Raises:
        ConfigError: the public key cannot be read, or a file cannot be written.
    """
    folder = (config.run_dir / "opa").absolute()
    try:
        key = section.public_key_file.read_text()
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        token = folder / "token"
        if not token.exists() or not token.stat().st_size:
            unborn = folder / ".token.new"  # whole, or not at all: an empty one would be refused for ever
            unborn.unlink(missing_ok=True)
            unborn.touch(0o640)
            unborn.write_text(secrets.token_urlsafe(32))
            unborn.rename(token)
        made = _opa_config(section, key, token, registry.bundle_copies(config).absolute() / "opa")
        path = folder / "config.yaml"
        files.replace(path, yaml.safe_dump(made, sort_keys=False))
    except OSError as error:
        raise ConfigError(f"policy.distribution: {error.filename}: {error.strerror}") from None
    return path


def _opa_config(section: DistributionSection, key: str, token: Path, kept: Path) -> dict[str, Any]:
    """``keyid`` must be there: without it OPA before 1.21.3 took a bundle whose signature was taken off."""
    polling = {"min_delay_seconds": 1, "max_delay_seconds": max(2, round(section.poll_seconds))}
    return {
        "services": {
            "affidavit": {"url": f"http://{section.listen}", "credentials": {"bearer": {"token_path": str(token)}}}
        },
        "bundles": {
            BUNDLE: {
                "service": "affidavit",
                "resource": "bundle",
                "persist": True,
                "polling": polling,
                "signing": {"keyid": section.key_id, "scope": SCOPE},
                "size_limit_bytes": BUNDLE_MAX_BYTES,
            }
        },
        "keys": {section.key_id: {"algorithm": section.algorithm, "key": key, "scope": SCOPE}},
        "persistence_directory": str(kept),
        "status": {"service": "affidavit"},
    }


@dataclass(frozen=True, slots=True)
class Distribution:
    """What there is to know: where things lie."""

    source: Path
    copies: Path
    persisted: Path

    @classmethod
    def of(cls, config: Config) -> Distribution:
        """As configured."""
        copies = registry.bundle_copies(config)
        return cls(config.policy.bundle_file, copies, copies / PERSISTED)


class Distributor:
    """Call `round` again and again; the door (`bundle_door`) calls the rest, from its own thread.

    Args:
        where: the files.
        note: puts a record into the log; may fail, then it is tried again.
    """

    def __init__(self, where: Distribution, note: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._where = where
        self._note = note
        self._lock = Lock()  # guards what follows: OPA is answered by a thread
        self._publishing = Publishing(self._remembered())
        self._untold: list[Refusal] = []
        self._seen: tuple[int, int, int] | None = None

    # Rounds ----------------------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Look for another file; put refusals on record.

        Raises:
            AuditUnavailable: a refusal cannot be put on record.
        """
        raw = self._changed()
        if raw is not None:
            with self._lock:
                self._consider(raw)
        while self._untold:
            self._note(LeafKind.POLICY_REFUSED, self._leaf(self._untold[0]))
            del self._untold[0]

    @property
    def degraded(self) -> str | None:
        """Why what is published is not what decides; None: it is, or nobody knows yet."""
        with self._lock:
            refused = self._publishing.refused
        return None if refused is None else f"bundle {refused.digest[:16]} refused: {refused.reason}"

    def _changed(self) -> bytes | None:
        try:
            told = self._where.source.stat()
            seen = (told.st_mtime_ns, told.st_size, told.st_ino)
            if seen == self._seen:
                return None
            if not stat.S_ISREG(told.st_mode):
                self._seen = seen
                return b""  # whatever it is, it is refused
            raw = read_file(self._where.source)
        except OSError:
            return None
        self._seen = seen
        # One that is far too large is no bundle; its beginning is enough to know it by.
        return raw if len(raw) <= BUNDLE_MAX_BYTES else raw[:1024]

    def _consider(self, raw: bytes) -> None:
        before = self._publishing.offered
        refusal = self._publishing.consider(raw)
        if refusal is not None:
            self._refused(refusal)
        offer = self._publishing.offered
        if offer is not None and offer != before:
            self._keep(raw, offer.digest)
            _log.info("policy bundle offered", revision=offer.revision, number=offer.number, digest=offer.digest)
        accepted = self._publishing.accepted
        is_lost = accepted is not None and not self._copy(accepted.digest).exists()
        if accepted is not None and is_lost and hashlib.sha256(raw).hexdigest() == accepted.digest:
            self._keep(raw, accepted.digest)

    def _refused(self, refusal: Refusal) -> None:
        self._untold.append(refusal)
        telemetry.POLICY_REFUSED.labels(refusal.reason).inc()
        _log.error("policy bundle refused", reason=refusal.reason, digest=refusal.digest, said=refusal.said)

    def _leaf(self, refusal: Refusal) -> dict[str, Any]:
        """No word of the bundle's own: whoever made it may not be somebody who may write into the log."""
        active = self._publishing.accepted
        return {
            "digest": refusal.digest,
            "reason": refusal.reason,
            "number": refusal.number,
            "active": None if active is None else {"revision": active.revision, "digest": active.digest},
        }

    # What OPA asks and says ------------------------------------------------------------------------------------------

    def serving(self) -> tuple[str, bytes] | None:
        """Digest and bytes of what OPA is to have."""
        with self._lock:
            offer = self._publishing.serving
        if offer is None:
            return None
        try:
            raw = self._copy(offer.digest).read_bytes()
        except OSError:
            return None
        return (offer.digest, raw) if hashlib.sha256(raw).hexdigest() == offer.digest else None

    def gave(self, digest: str) -> None:
        """OPA has it."""
        with self._lock:
            self._publishing.gave(digest)

    def heard(self, status: Mapping[str, Any]) -> None:
        """OPA's status."""
        with self._lock:
            found = self._publishing.heard(status)
            if isinstance(found, Offer) and not self._is_loaded(found):
                found = self._publishing.mistaken(found)
            if isinstance(found, Refusal):
                self._refused(found)
            elif found is not None:
                self._remember(found)
                _log.info("policy bundle active", revision=found.revision, number=found.number, digest=found.digest)

    def _is_loaded(self, offer: Offer) -> bool:
        """OPA keeps what it loaded, byte for byte, before it says that it did. (If it keeps it where we can look.)"""
        try:
            return hashlib.sha256(self._where.persisted.read_bytes()).hexdigest() == offer.digest
        except OSError as error:
            _log.warning("cannot look at what OPA loaded", file=str(self._where.persisted), why=error.strerror)
            return True

    # Files -----------------------------------------------------------------------------------------------------------

    def _copy(self, digest: str) -> Path:
        return self._where.copies / f"{digest}.tar.gz"

    def _keep(self, raw: bytes, digest: str) -> None:
        self._where.copies.mkdir(parents=True, exist_ok=True, mode=0o750)
        files.replace(self._copy(digest), raw)

    @property
    def _memory(self) -> Path:
        return self._where.copies / "accepted.json"

    def _remembered(self) -> Offer | None:
        try:
            return Offer(**json.loads(self._memory.read_text())[-1])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError):
            # Going on without the floor would be the way back that it is there to bar.
            raise ConfigError(
                f"{self._memory}: cannot be read; put it back, or remove it to begin a new line"
            ) from None

    def _remember(self, offer: Offer) -> None:
        before = [] if not self._memory.exists() else json.loads(self._memory.read_text())
        kept = [*before[-1:], asdict(offer)]
        files.replace(self._memory, json.dumps(kept))  # durable: else a power cut would forget the floor
        wanted = {one["digest"] for one in kept}
        for path in self._where.copies.glob("*.tar.gz"):
            if path.name.partition(".")[0] not in wanted:
                path.unlink(missing_ok=True)
