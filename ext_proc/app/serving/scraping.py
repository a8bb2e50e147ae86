"""``/metrics``: what all processes of the gateway counted, and how it stands.

In OpenMetrics' form, for who asks for that, the buckets of latencies have exemplars: an exchange, by its id (the key of
its records), and its trace where it is traced.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.exposition import choose_encoder

from ext_proc import files, telemetry
from ext_proc.app.envoy_admin import ask_envoy, read_stats, stats_path
from ext_proc.app.process import clock, read_states
from ext_proc.app.serving.standing import StandingCollector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from ext_proc.config import Config

_SUFFIX: Final = ".exemplars.json"


def tell_exemplars(run_dir: Path, index: int, lines: Sequence[telemetry.ExemplarLine]) -> None:
    """A worker's newest exemplars, where `scraped` finds them. Where nothing is new, what is there stands."""
    if not lines:
        return
    path = run_dir / "metrics" / f"worker-{index}{_SUFFIX}"
    with suppress(OSError):  # a full disk: metrics go on without
        files.replace(path, json.dumps(lines), is_durable=False)


def _exemplars(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with suppress(OSError, ValueError):
            yield from json.loads(path.read_text())


def scraped(config: Config, digest: str, accept: str) -> web.Response:
    """The answer to Prometheus, in the form that it asks for."""
    folder = config.run_dir / "metrics"
    found = CollectorRegistry()
    for ours in (telemetry.WORKER_STARTS, telemetry.WORKER_RESTARTS, telemetry.DAILY_RUNS):
        found.register(ours)  # the supervisor's own; the rest is what the children wrote
    children = multiprocess.MultiProcessCollector(None, path=str(folder))  # type: ignore[no-untyped-call]
    found.register(telemetry.WithExemplars(children, _exemplars(folder)))
    found.register(StandingCollector(config, digest, read_states(config.run_dir), clock().timestamp()))
    found.register(EnvoyCollector(config.listen.admin))
    return encoded(found, accept)


class EnvoyCollector:
    """Envoy's word on its calls of the gate: nobody else can scrape its admin interface."""

    def __init__(self, admin: str) -> None:
        self._admin = admin

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`. Nothing where Envoy does not answer."""
        said = ask_envoy(self._admin, stats_path(rf"ext_proc\.({'|'.join(telemetry.ENVOY_EVENTS)})$"))
        with suppress(ValueError):
            told: Counter[str] = Counter()
            for name, value in read_stats(said).items():
                told[name.rpartition(".")[2]] += value  # of both listeners
            yield telemetry.envoy_counters(told)


def encoded(registry: CollectorRegistry, accept: str) -> web.Response:
    """What the registry has, in the form that is asked for."""
    encode, content_type = choose_encoder(accept)
    return web.Response(body=encode(registry), headers={"content-type": content_type})
