"""Does the bucket lock what is put, long enough, and may the gateway's identity no more than it must?"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app.authoring.archived_bundles import NoBundle, bytes_of
from ext_proc.app.doctor.envoy import FAIL, OK, WARN, Finding
from ext_proc.app.evidence.auditing import store_of_source
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit.desk import COMPLIANCE
from ext_proc.audit.s3 import BucketSettings
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.evidence.versions import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from ext_proc.config import Config

DRIFT_SECONDS: Final = 5.0
FAR_SECONDS: Final = 60.0
"""Clocks that are further apart than this: tokens expire early or late, and times in evidence are wrong."""
_CANARY_ROUNDS: Final = 2


def look(config: Config, states: Mapping[str, Mapping[str, Any]], clock: Callable[[], datetime]) -> Iterator[Finding]:
    """All there is to say of it."""
    store, s3 = store_of(config), config.audit.s3
    settings = BucketSettings(store, s3.bucket)
    try:
        settings.reach()
    except (StoreUnavailable, StoreRefused) as error:
        says = f"bucket {s3.bucket}: {error}"
        yield Finding("store.reached", FAIL, says, "audit.s3: endpoint, credentials, permission to list")
        return
    yield Finding("store.reached", OK, f"bucket {s3.bucket} answers")
    yield _lock(settings, s3.retention_days)
    yield _versioning(settings)
    if store.said_at is not None:
        said, heard = store.said_at
        ours = clock() - timedelta(seconds=monotonic() - heard)
        yield clock_finding("store.clock", (ours - said).total_seconds())
    yield canary_finding(states.get("shipper", {}), config.audit.canary_hours, clock().timestamp())


def _lock(settings: BucketSettings, days: int) -> Finding:
    try:
        mode, locked = settings.default_retention()
    except (StoreUnavailable, StoreRefused) as error:
        do = "allow s3:GetBucketObjectLockConfiguration, so that the doctor can look"
        return Finding("store.lock", WARN, f"how the bucket locks is not shown: {error}", do)
    says = f"default retention: {mode or 'none'}, {locked} days; {days} are promised"
    if mode != COMPLIANCE or locked < days:
        return Finding("store.lock", FAIL, says, "docs/operating.md, 1, and audit.s3.retention_days")
    return Finding("store.lock", OK, says)


def _versioning(settings: BucketSettings) -> Finding:
    try:
        status = settings.versioning()
    except (StoreUnavailable, StoreRefused) as error:
        return Finding("store.versions", WARN, f"not shown: {error}", "allow s3:GetBucketVersioning")
    if status != "Enabled":
        says = f"versioning is {status or 'off'}, and locks are of versions"
        return Finding("store.versions", FAIL, says, "switch it on; whoever switched it off is in the cloud's own log")
    return Finding("store.versions", OK, "every version is kept")


def canary_finding(shipper: Mapping[str, Any], every_hours: float, now: float) -> Finding:
    """What the newest attempt to get rid of a locked object came to: the permissions that only an attack can show."""
    holes, at = shipper.get("canary_holes", ()), shipper.get("canary_at")
    if holes:
        return Finding(
            "store.permissions", FAIL, f"could do: {', '.join(holes)}", "docs/runbook.md#affidavitstoreleaks"
        )
    if at is None:
        return Finding("store.permissions", WARN, "no canary since the shipper began", "affidavit canary tries it now")
    hours = (now - at) / 3600
    says = f"nothing locked could be changed or removed, {hours:.1f} hours ago"
    if hours > _CANARY_ROUNDS * every_hours:
        return Finding("store.permissions", WARN, says, "affidavit canary tries it now")
    return Finding("store.permissions", OK, says)


def clock_finding(name: str, ahead_seconds: float) -> Finding:
    """Two clocks, to a second."""
    apart = abs(ahead_seconds)
    says = f"our clock is {apart:.0f} s {'ahead' if ahead_seconds >= 0 else 'behind'}"
    if apart > FAR_SECONDS:
        return Finding(name, FAIL, says, "docs/runbook.md#affidavitclock")
    return Finding(name, WARN if apart > DRIFT_SECONDS else OK, says, "docs/runbook.md#affidavitclock")


def policy_is_kept(config: Config, digest: str) -> Finding:
    """The bundle that decides is in the bucket, byte for byte, in one of its copies."""
    try:
        bytes_of(store_of_source(None, config), digest)
    except NoBundle as missing:
        do = "leave policy.bundle_file where it is, and wait; where it was changed: an incident, affidavit verify"
        return Finding("policy.recorded", FAIL, str(missing), do)
    except EvidenceError as error:
        return Finding("policy.recorded", FAIL, f"the bucket cannot be read: {error.detail}", "see store.reached")
    return Finding("policy.recorded", OK, "the bundle that decides is in the bucket")
