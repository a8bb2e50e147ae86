"""How the gateway stands, made of what its processes last said of themselves: for ``/ready``, and as gauges."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc import __version__, telemetry
from ext_proc.app import registry
from ext_proc.audit import segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from ext_proc.config import Config

STATE_FRESH_SECONDS: Final = 10.0
"""What a process said longer ago says nothing any more."""
SHIPPER_FRESH_SECONDS: Final = 300.0
"""The shipper says something after each round, and a round with a store that hangs takes minutes."""
DAILY_BEGINS_SECONDS: Final = 900.0
"""The first look at the store is made at once; one that does not answer is told of within minutes."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Problems keep it from being ready; what is degraded stops nobody. ``parts`` are both, for alerts."""

    problems: Mapping[str, str]
    degraded: Mapping[str, str]
    parts: Mapping[str, bool]
    states: Mapping[str, Mapping[str, Any]]

    @property
    def is_ready(self) -> bool:
        """May calls be sent here?"""
        return not self.problems

    @classmethod
    def of(cls, config: Config, states: Mapping[str, Mapping[str, Any]], now: float) -> Standing:
        """As the processes said."""
        wanted = {f"worker-{index}": states.get(f"worker-{index}") for index in range(config.workers)}
        fresh = {name: one for name, one in wanted.items() if one and abs(now - one["at"]) <= STATE_FRESH_SECONDS}
        shipper = states.get("shipper", {})
        problems = {name: _why_silent(shipper) for name in wanted if name not in fresh}
        for name, state in fresh.items():
            if not state["is_ready"]:
                problems[name] = state["failure"] or _lacking(state)
        if holes := shipper.get("canary_holes"):
            problems["store"] = f"does not keep what it locked: {', '.join(holes)}"
        # Not a reason to serve nobody: the policy before goes on deciding.
        degraded = {"policy": why} if (why := shipper.get("policy_refused")) else {}
        if refused := states.get("supervisor", {}).get("refused"):
            degraded["configuration"] = str(refused.get("why"))
        parts = {
            "workers": len(fresh) == len(wanted),
            "policy": bool(fresh) and all(one.get("is_policy_ready", False) for one in fresh.values()),
            "evidence": bool(fresh) and all(one.get("is_writable", False) for one in fresh.values()),
            "store": not holes,
            "shipper": is_shipping(shipper, now),
            "daily": config.audit.daily_hour is None or _does_daily_work(states, now),
            "bundle": "policy" not in degraded,
        }
        return cls(problems, degraded, parts, states)


def _lacking(state: Mapping[str, Any]) -> str:
    """What a worker that answers and is not ready does not have."""
    lacking = []
    if not state.get("is_policy_ready", False):
        lacking.append("policy: OPA does not answer on its socket")
    if not state.get("is_writable", False):
        lacking.append("evidence: there is no room for it")
    return "; ".join(lacking) or "not ready"


def _why_silent(shipper: Mapping[str, Any]) -> str:
    """A worker that starts says nothing before its log's birth record is in the store: else it looks as if it hung."""
    failures = [str(one) for one in shipper.get("failures", ())]
    if failures and not shipper.get("was_born", False):
        return f"does not answer; waits for its log's first record to be in the store ({failures[-1]})"
    return "does not answer"


def is_shipping(shipper: Mapping[str, Any], now: float) -> bool:
    """Did its last round go well, and was that not long ago?"""
    return bool(shipper.get("is_ready")) and bool(abs(now - shipper["at"]) <= SHIPPER_FRESH_SECONDS)


def _does_daily_work(states: Mapping[str, Mapping[str, Any]], now: float) -> bool:
    """Well, and in time: what hangs, or never began, has no failures to tell of."""
    told = states.get("daily")
    if told is None:  # it says something as soon as it begins
        return bool(now - states.get("supervisor", {}).get("at", 0.0) <= DAILY_BEGINS_SECONDS)
    return bool(told.get("is_ready") and now <= told.get("due_by", 0.0))


class StandingCollector:
    """`Standing` and the disk as gauges, read when Prometheus asks.

    Args:
        config: the configuration in force.
        digest: the SHA-256 of its file.
        states: what the processes last said.
        now: the time.
    """

    def __init__(self, config: Config, digest: str, states: Mapping[str, Mapping[str, Any]], now: float) -> None:
        self._config, self._digest, self._states, self._now = config, digest, states, now

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        standing = Standing.of(self._config, self._states, self._now)
        yield telemetry.BUILD.family({(__version__, self._digest): 1})
        yield telemetry.POLICY_INFO.family(dict(self._policies()))
        yield telemetry.READY.of(standing.is_ready)
        yield telemetry.PART_READY.family({(part,): is_well for part, is_well in standing.parts.items()})
        yield from EvidenceCollector(self._config, self._states.get("shipper", {}), self._now).collect()

    def _policies(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        for name, state in self._states.items():
            if policy := state.get("policy"):
                yield (name, policy["revision"], policy["digest"]), 1


class EvidenceCollector:
    """The disk, and what the shipper says of the store, as gauges.

    Args:
        config: the configuration in force.
        shipper: what the shipper last said.
        now: the time.
    """

    def __init__(self, config: Config, shipper: Mapping[str, Any], now: float) -> None:
        self._config, self._shipper, self._now = config, shipper, now

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from self._disk()
        yield from self._store()

    def _disk(self) -> Iterator[Metric]:
        directory = registry.evidence_directory(self._config)
        yield telemetry.EVIDENCE_CAPACITY.of(self._config.audit.wal.max_bytes)
        with suppress(OSError):  # not there yet: then nothing is said of it
            yield telemetry.EVIDENCE_USED.of(segments.used_bytes(directory))
            told = os.statvfs(directory)
            yield telemetry.DISK_FREE.of(told.f_bavail * told.f_frsize)
        waiting = [max(0.0, self._now - at) for at in changed_at(directory, segments.SEALED)]
        yield telemetry.OLDEST_UNSHIPPED.of(max(waiting, default=0.0))
        yield telemetry.QUARANTINED.of(sum(1 for _ in changed_at(directory, segments.QUARANTINE)))

    def _store(self) -> Iterator[Metric]:
        shipper = self._shipper
        yield telemetry.CANARY_HOLES.of(len(shipper.get("canary_holes", ())))
        if (at := shipper.get("canary_at")) is not None:
            yield telemetry.CANARY_AGE.of(self._now - at)
        if (offset := shipper.get("clock_offset_seconds")) is not None:
            yield telemetry.CLOCK_OFFSET.of(offset)


def changed_at(directory: Path, suffix: str) -> Iterable[float]:
    """When files of this kind were written last, over all epochs. What is freed meanwhile does not count."""
    for path in directory.glob(f"[!.]*/*{suffix}"):
        with suppress(OSError):
            yield path.stat().st_mtime
