"""Must show 6 of observability: the rules in a real Prometheus, against a running gateway. Each fault is brought about, and
its alert fires.

The rules are those of the chart, with other times: nobody waits ten minutes in a test. `hastened` is all that is changed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from prometheus_client import CollectorRegistry, start_http_server

from ext_proc.app.serving.scraping import EnvoyCollector
from ext_proc.demo import programs, servers
from ext_proc.demo.stack import Stack, StackOptions
from ext_proc.policy import bundle
from tests.e2e.conftest import CHAT, Gateway, operations
from tests.e2e.harness import LoopThread, running_edge
from tests.e2e.store_between import AWAY, OBLIGING, UNLOCKED, WELL, StoreBetween
from tests.e2e.stub import Fault
from tests.e2e.test_full_disk import tmpfs
from tests.e2e.upstream import Upstream, plain
from tests.needed import absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(900)  # three dozen programs start first

REPOSITORY: Final = Path(__file__).resolve().parents[2]
RULES: Final = REPOSITORY / "helm" / "affidavit" / "files" / "alerts.yaml"
SECONDS: Final = 120.0
MIB: Final = 1024 * 1024
DISK_MIB: Final = 72
ANSWER: Final = json.dumps({"choices": [{"message": {"role": "assistant", "content": "fine"}}]}).encode()
HASTE: Final = {
    "AffidavitEvidenceOld": ("> 600", "> 5"),
    "AffidavitHoldsWaiting": ("> 900", "> 2"),
    "AffidavitCanaryOld": ("> 172800", "> 2"),
}
"""What else is shortened than times: ages."""
FROM_THE_START: Final = {"AffidavitDailyWork", "AffidavitCanaryOld"}
"""A day that does not add up is there before the gateway is: it looks when it starts. So does the canary, and once."""


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules: `for` is a second, windows are half a minute, ages are `HASTE`'s."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[\d+m\]", "[30s]", rule["expr"])
            if "for" in rule:
                rule["for"] = "1s"
            if rule["alert"] in HASTE:
                before, after = HASTE[rule["alert"]]
                assert rule["expr"].count(before) == 1
                rule["expr"] = rule["expr"].replace(before, after)
    return rules


class Watched(Stack):
    """A small disk, a store with moods, a policy that can be published and in which a glass can be broken."""

    disk: Path
    between: StoreBetween

    def start_opa(self) -> None:
        """It comes after the store and before the gate: the place for what must be there before."""
        sources = self.folder / "opa"
        if not sources.exists():
            self.between = StoreBetween(self.s3.endpoint)
            self._spoil_days()
            shutil.copytree(servers.POLICY_SOURCES, sources)
            data = json.loads((sources / "data.json").read_text())
            data["inference"]["approval"]["break_glass"] = {"groups": ["analysts"], "code": "emergency"}
            (sources / "data.json").write_text(json.dumps(data))
            bundle.build(programs.tool("opa"), sources, self.folder / "bundle.tar.gz", number=1)
        super().start_opa()

    def _spoil_days(self) -> None:
        """Something lies among the records of the days that are over that is none."""
        for back in (1, 2):
            day = f"{datetime.now(UTC) - timedelta(days=back):%Y-%m-%d}"
            self.s3.client().put_object(Bucket=self.s3.bucket, Key=f"v1/events/dt={day}/none", Body=b"no events")

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        told = super()._configuration(keys, upstream)
        private = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (keys / "policy.pub").write_bytes(private.public_key().public_bytes(*form))
        [port] = programs.free_ports(1)
        told["policy"]["distribution"] = {
            "public_key_file": str(keys / "policy.pub"), "key_id": "policy", "listen": f"127.0.0.1:{port}",
        }  # fmt: skip
        told["state_dir"] = str(self.disk / "state")
        told["audit"]["wal"] = {
            "seal_seconds": 1, "segment_bytes": MIB, "emergency_bytes": MIB, "max_bytes": 32 * MIB,
        }  # fmt: skip
        told["audit"]["s3"]["endpoint"] = self.between.endpoint
        return told

    def stop(self) -> None:
        """And the store's moods."""
        super().stop()
        if hasattr(self, "between"):
            self.between.stop()


@dataclass
class Watch:
    """Prometheus, and what it looks at."""

    gateway: Gateway
    stack: Watched
    edge: Any
    port: int

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/alerts", timeout=10) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def value(self, expression: str) -> list[float]:
        """What Prometheus makes of it."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{asked}", timeout=10) as answer:
            return [float(one["value"][1]) for one in json.load(answer)["data"]["result"]]

    def until(self, is_so: Callable[[], Any], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait, and do something in between."""
        deadline = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < deadline, f"{what}; firing: {sorted(self.firing())}"
            meanwhile()
            time.sleep(0.3)

    def fires(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """They fire."""
        self.until(lambda: set(names) <= self.firing(), f"{names} do not fire", meanwhile)

    def is_over(self, *names: str) -> None:
        """They do not any more."""
        self.until(lambda: not set(names) & self.firing(), f"{names} do not end")


def _prometheus(folder: Path, targets: dict[str, tuple[str, int]]) -> tuple[programs.Program, int]:
    program = shutil.which("prometheus")
    if program is None:
        absent("prometheus (Debian's package)")
    [port] = programs.free_ports(1)
    rules = hastened(yaml.safe_load(RULES.read_text()))
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    jobs = [
        {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
        for name, (path, at) in targets.items()
    ]
    told = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    command = (
        program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--enable-feature=exemplar-storage",
    )  # fmt: skip
    started = programs.start("prometheus", command, folder / "logs")
    started.wait_until(programs.answers(port, "/-/ready"))
    return started, port


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with ExitStack() as ends:
        loop = LoopThread()
        ends.callback(loop.stop)
        upstream = Upstream({}, default=(plain(ANSWER),))
        loop.run(upstream.start())
        ends.callback(lambda: loop.run(upstream.stop()))
        connection = {"operations": operations(CHAT), "request_limit_bytes": MIB // 4, "response_limit_bytes": MIB // 4}
        options = StackOptions(
            upstream=f"http://127.0.0.1:{upstream.port}", workers=2, connection=connection, with_console=True
        )
        stack = Watched(tmp_path_factory.mktemp("watched"), options)
        stack.disk = ends.enter_context(tmpfs(DISK_MIB))
        stack.start()
        ends.callback(stack.stop)
        scripts = {"close": {"request_headers": Fault.CLOSE}, "raise": {"request_headers": Fault.RAISE}}
        edge = ends.enter_context(running_edge(tmp_path_factory.mktemp("edge"), scripts=scripts))
        counted = CollectorRegistry()
        counted.register(EnvoyCollector(f"127.0.0.1:{edge.settings.admin_port}"))
        beside_edge, _ = start_http_server(0, "127.0.0.1", counted)  # as a supervisor beside that Envoy would tell
        ends.callback(beside_edge.shutdown)
        targets = {
            "affidavit": ("/metrics", stack.ports["metrics"]),
            "console": ("/metrics", stack.ports["console_metrics"]),
            "edge": ("/metrics", beside_edge.server_port),
        }
        prometheus, port = _prometheus(tmp_path_factory.mktemp("prometheus"), targets)
        ends.callback(prometheus.stop)
        yield Watch(Gateway(stack, upstream, stack.token("ada", ["analysts"])), stack, edge, port)


def _worker(watch: Watch, index: int = 0) -> int:
    return watch.stack.pids()[f"worker-{index}"]


def test_all_is_well_at_first(watch: Watch) -> None:
    """Every target is scraped, every metric of the rules is there, nothing fires that should not; exemplars are kept."""
    watch.until(lambda: watch.value("up") == [1, 1, 1], "not all are scraped")
    watch.until(lambda: watch.gateway.chat("hello").status == 200, "no call passes")
    for _ in range(5):
        assert watch.gateway.chat("hello").status == 200
    watch.until(lambda: sum(watch.value("affidavit_decisions_total")) >= 6, "decisions are not counted")
    watch.until(lambda: watch.value("affidavit_canary_age_seconds"), "no canary learnt anything")
    named = set(re.findall(r"\b(?:affidavit|envoy)_[a-z0-9_]+\b", RULES.read_text()))
    assert sorted(name for name in named if not watch.value(f"count({name})")) == []
    time.sleep(3)
    assert watch.firing() <= FROM_THE_START
    asked = urllib.parse.urlencode({"query": "affidavit_step_seconds_bucket", "start": "0", "end": str(time.time())})
    with urllib.request.urlopen(f"http://127.0.0.1:{watch.port}/api/v1/query_exemplars?{asked}", timeout=10) as answer:
        found = json.load(answer)["data"]
    exchanges = {one["labels"]["exchange_id"] for series in found for one in series["exemplars"]}
    assert exchanges
    assert watch.gateway.records(exchanges.pop(), "inference.intent")  # the key of the evidence


def test_day_that_does_not_add_up(watch: Watch) -> None:
    watch.fires("AffidavitDailyWork")


def test_canary_that_is_old(watch: Watch) -> None:
    watch.fires("AffidavitCanaryOld")


def test_keys_that_cannot_be_fetched(watch: Watch) -> None:
    issuer = watch.stack.programs["issuer"]
    head, _, rest = watch.gateway.analyst.partition(".")
    told = json.loads(base64.urlsafe_b64decode(head + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**told, "kid": "unheard-of"}).encode()).decode().rstrip("=")
    os.kill(issuer.pid, signal.SIGSTOP)
    try:
        watch.fires("AffidavitKeysNotFetched", meanwhile=lambda: watch.gateway.chat("hello", token=f"{other}.{rest}"))
    finally:
        os.kill(issuer.pid, signal.SIGCONT)


def test_glass_that_is_broken(watch: Watch) -> None:
    def break_it() -> None:
        body = json.dumps({"model": "demo-restricted", "messages": [{"role": "user", "content": "now"}]}).encode()
        reply = watch.gateway.send(
            "POST", CHAT, body, watch.gateway.analyst, x_affidavit_break_glass="production is down, case 7"
        )
        assert reply.status == 200, reply.body

    watch.fires("AffidavitBreakGlass", meanwhile=break_it)


def test_call_that_waits_for_people(watch: Watch) -> None:
    body = json.dumps({"model": "demo-restricted", "messages": [{"role": "user", "content": "later"}]}).encode()
    assert watch.gateway.send("POST", CHAT, body, watch.gateway.analyst, prefer="respond-async").status == 202
    watch.fires("AffidavitHoldsWaiting")


def test_stream_that_is_broken_off(watch: Watch) -> None:
    """Somebody speaks to a worker as Envoy never would."""

    def speak() -> None:
        with grpc.insecure_channel(f"unix:{watch.stack.folder / 'run' / 'worker-0.sock'}") as channel:
            stub = external_processor_pb2_grpc.ExternalProcessorStub(channel)
            said = pb.ProcessingRequest(response_body=pb.HttpBody(body=b"x", end_of_stream=True))
            with pytest.raises(grpc.RpcError):
                list(stub.Process(iter([said]), timeout=20))

    watch.fires("AffidavitStreamsAborted", meanwhile=speak)


def test_worker_that_dies(watch: Watch) -> None:
    os.kill(_worker(watch), signal.SIGKILL)
    watch.fires("AffidavitWorkerRestarts")
    watch.until(lambda: watch.value("affidavit_ready") == [1], "it does not come back")


def test_policy_that_is_away(watch: Watch) -> None:
    watch.stack.programs["opa"].stop()
    names = ("AffidavitPolicyUnreachable", "AffidavitNotReady", "AffidavitFailClosed")
    try:
        watch.fires(*names, meanwhile=lambda: watch.gateway.chat("hello"))
    finally:
        watch.stack.start_opa()
    watch.is_over(*names[:2])


def test_clock_that_is_wrong(watch: Watch) -> None:
    watch.stack.between.late = timedelta(hours=1)
    try:
        watch.fires("AffidavitClock", meanwhile=lambda: watch.gateway.chat("hello"))
    finally:
        watch.stack.between.late = None


def test_store_that_is_away(watch: Watch) -> None:
    watch.stack.between.mood = AWAY
    text = " ".join(f"word{number:x}" for number in range(9000))  # not so easily packed
    names = ("AffidavitShippingFailing", "AffidavitEvidenceOld", "AffidavitEvidenceBacklog")

    def fill() -> None:
        if watch.value("max(affidavit_evidence_used_bytes)") < [17 * MIB]:
            watch.gateway.chat(text)

    try:
        watch.fires(*names, meanwhile=fill)
    finally:
        watch.stack.between.mood = WELL
    watch.is_over(*names)


def test_store_that_does_not_lock(watch: Watch) -> None:
    watch.stack.between.mood = UNLOCKED
    try:
        watch.fires("AffidavitNotLocked", meanwhile=lambda: watch.gateway.chat("hello"))
    finally:
        watch.stack.between.mood = WELL


def test_store_that_lets_locks_be_shortened(watch: Watch) -> None:
    """The canary looks when the shipper starts."""
    watch.stack.between.mood = OBLIGING
    os.kill(watch.stack.pids()["shipper"], signal.SIGKILL)
    try:
        watch.fires("AffidavitStoreLeaks")
    finally:
        watch.stack.between.mood = WELL
        os.kill(watch.stack.pids()["shipper"], signal.SIGKILL)
    watch.is_over("AffidavitStoreLeaks")


def test_evidence_that_is_damaged_on_the_disk(watch: Watch) -> None:
    folder = watch.stack.disk / "state" / "evidence"
    watch.stack.between.mood = AWAY
    try:
        watch.until(lambda: list(folder.glob("*/*.sealed")), "nothing waits", lambda: watch.gateway.chat("hello"))
        segment = max(folder.glob("*/*.sealed"), key=lambda path: path.stat().st_size)
        raw = bytearray(segment.read_bytes())
        raw[len(raw) // 2] ^= 1
        segment.write_bytes(raw)
    finally:
        watch.stack.between.mood = WELL
    watch.fires("AffidavitQuarantined")
    for path in folder.glob("*/*.quarantine"):  # as the runbook has it: kept elsewhere
        shutil.move(path, watch.stack.folder / path.name)
    watch.is_over("AffidavitQuarantined")


def test_disk_that_fills(watch: Watch) -> None:
    other = watch.stack.disk / "somebody-elses"
    size = shutil.disk_usage(watch.stack.disk).free - 12 * MIB
    with other.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        watch.fires("AffidavitDiskFilling")
    finally:
        other.unlink()


def test_disk_that_fails(watch: Watch) -> None:
    """Every ``fdatasync`` of the workers fails: no record becomes durable, nothing passes."""
    strace = shutil.which("strace")
    if strace is None:
        absent("strace (apt-get install strace), and the right to trace processes")
    tracers = [
        subprocess.Popen(
            [strace, "-f", "-p", str(_worker(watch, index)), "-o", os.devnull, "-e", "trace=fdatasync",
             "-e", "inject=fdatasync:error=EIO"],
            stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        for tracer in tracers:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline(), "strace cannot attach"
        reply = watch.gateway.chat("hello")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "audit_unavailable")
        watch.fires("AffidavitUnrecorded")
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.wait()
    watch.until(lambda: watch.value("affidavit_ready") == [1], "it does not come back")


def test_bundle_that_is_refused(watch: Watch) -> None:
    beside = watch.stack.folder / "bundle.new"
    beside.write_bytes(b"no bundle")
    beside.rename(watch.stack.folder / "bundle.tar.gz")
    watch.fires("AffidavitBundleRefused")


def test_gate_that_closes_cleanly_and_one_that_fails(watch: Watch) -> None:
    """A gate that misbehaves, before another Envoy: ours does not do so."""
    watch.fires("AffidavitBypassed", meanwhile=lambda: watch.edge.post(script="close"))
    watch.fires("AffidavitGateFailed", meanwhile=lambda: watch.edge.post(script="raise"))


def test_gateway_that_is_gone(watch: Watch) -> None:
    watch.stack.programs["supervisor"].stop()
    watch.fires("AffidavitAbsent", "AffidavitReplicaGone")


def test_every_alert_was_brought_about() -> None:
    """A rule that is added needs its fault here."""
    source = Path(__file__).read_text()
    alerts = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    fired = set(re.findall(r'"(Affidavit\w+)"', source.partition("def _worker")[2]))
    assert set(alerts) == fired
