"""`affidavit serve` as a process: what it starts it keeps, tells of, changes and stops. Real workers, real OPA, no Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc

from ext_proc import cli
from ext_proc.app import registry
from ext_proc.app.process import adopt_orphans, read_states
from ext_proc.app.serving import supervisor
from ext_proc.app.serving.fork_server import Child
from ext_proc.app.serving.supervisor import _Role, _Supervisor
from ext_proc.audit.keys import create_key_files
from ext_proc.config import load
from ext_proc.demo import servers
from ext_proc.demo.programs import free_ports
from ext_proc.demo.seaweed import start_seaweed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.demo.programs import Program
    from ext_proc.demo.seaweed import Seaweed

WAIT_SECONDS = 60.0


def _wait(is_so: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := is_so()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _fork_server_of(pids: dict[str, int]) -> int:
    """The one child of the supervisor's that says nothing of itself."""
    children = Path(f"/proc/{pids['supervisor']}/task/{pids['supervisor']}/children").read_text().split()
    [pid] = {int(child) for child in children} - set(pids.values())
    return pid


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Gate:
    """A running ``affidavit serve``."""

    folder: Path
    program: Program
    metrics_port: int
    opa: Program

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def pids(self) -> dict[str, int]:
        return {name: state["pid"] for name, state in read_states(self.folder / "run").items()}

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def is_ready(self) -> bool:
        return self.ask("/ready")[0] == 200

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the successor."""
        before = self.pids()[name]
        os.kill(before, signal.SIGKILL)
        _wait(lambda: self.pids()[name] != before, f"no new {name}")

    def log(self) -> list[dict[str, Any]]:
        lines = self.program.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the configuration file."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        self.config.write_text(yaml.safe_dump(config))

    def command(self, *arguments: str) -> Done:
        """A command of ours, in this process: importing everything again would take longer than all the rest."""
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            status = cli.main([*arguments, "--config", str(self.config)])
        return Done(status, said.getvalue(), complained.getvalue())


def _serve(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ext_proc", "serve", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)


def _configuration(folder: Path, metrics_port: int, store: Seaweed | None = None) -> dict[str, Any]:
    """Without a store: one that nobody answers for, so that nothing is ever born and nothing ready."""
    [closed] = free_ports(1)
    s3: dict[str, Any] = {"bucket": "evidence", "endpoint": f"http://127.0.0.1:{closed}"}
    if store is not None:
        credentials = folder / "keys" / "s3"
        lines = f"aws_access_key_id={store.access_key}\naws_secret_access_key={store.secret_key}\n"
        credentials.write_text(f"[default]\n{lines}")
        s3 = {"bucket": store.bucket, "region": store.region, "endpoint": store.endpoint, "retention_days": 1}
        s3["credentials_file"] = str(credentials)
    return {
        "run_dir": str(folder / "run"),
        "state_dir": str(folder / "state"),
        "drain_seconds": 20,
        "metrics": f"127.0.0.1:{metrics_port}",
        "identity": {"issuers": [{"issuer": f"http://127.0.0.1:{closed}", "audiences": ["affidavit"]}]},
        "policy": {"opa_socket": str(folder / "opa.sock"), "bundle_file": str(folder / "bundle.tar.gz")},
        "redaction": {"hash_key_file": str(folder / "keys" / "hash-key")},
        "audit": {
            "key_encryption_key_file": str(folder / "keys" / "key-encryption-key"),
            "pepper_file": str(folder / "keys" / "pepper"),
            "signing": {"file": str(folder / "keys" / "log-key")},
            "receipt_key_file": str(folder / "keys" / "receipt-key"),
            "s3": s3,
        },
        "connections": [{"name": "model", "path_prefix": "/v1/", "upstream": {"url": "http://127.0.0.1:9"}}],
    }


def _make_files(folder: Path) -> None:
    """What the configuration names and a worker loads."""
    (folder / "keys").mkdir()
    create_key_files(folder / "keys", "key-encryption-key", "pepper", "hash-key", "log-key", "receipt-key")
    servers.build_bundle(folder / "bundle.tar.gz")


@contextlib.contextmanager
def _running_gate() -> Iterator[Gate]:
    folder = Path(tempfile.mkdtemp(prefix="affidavit-"))  # short: Unix sockets have 107 bytes
    stack = contextlib.ExitStack()
    try:
        _make_files(folder)
        store = start_seaweed(folder, folder / "logs", retention_days=1)
        stack.callback(store.program.stop)
        opa = servers.start_opa(folder / "opa.sock", folder / "bundle.tar.gz", folder / "logs")
        stack.callback(opa.stop)
        [port] = free_ports(1)
        (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(folder, port, store)))
        program = servers.start_gate(folder / "config.yaml", port, folder / "logs")
        stack.callback(program.stop)
        gate = Gate(folder, program, port, opa)
        _wait(lambda: "shipper" in gate.pids(), "no shipper")
        yield gate
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with _running_gate() as running:
        yield running
        assert running.program.process.poll() is None, "the supervisor did not outlive the tests"


@pytest.fixture
def own() -> Iterator[Gate]:
    """For a test that ends it."""
    with _running_gate() as running:
        yield running


# What it tells --------------------------------------------------------------------------------------------------------


def test_health_and_metrics(gate: Gate) -> None:
    status, body = gate.ask("/ready")
    told = json.loads(body)
    assert (status, told["ready"], told["problems"]) == (200, True, {})
    # What is done daily is told of too, once it was looked at for the first time.
    assert set(told["processes"]) - {"daily"} == {"supervisor", "shipper", "worker-0", "worker-1"}
    assert gate.ask("/live") == (200, '{"live": true}')
    status, text = gate.ask("/metrics")
    assert status == 200
    assert 'affidavit_worker_starts_total{role="worker"}' in text
    assert 'affidavit_worker_starts_total{role="shipper"}' in text
    assert "affidavit_evidence_unshipped_bytes" in text


def test_not_ready_without_policy(gate: Gate) -> None:
    os.kill(gate.opa.pid, signal.SIGSTOP)
    try:
        _wait(lambda: not gate.is_ready(), "ready without a policy")
        assert set(json.loads(gate.ask("/ready")[1])["problems"]) <= {"worker-0", "worker-1"}
        assert gate.ask("/live")[0] == 200
    finally:
        os.kill(gate.opa.pid, signal.SIGCONT)
    _wait(gate.is_ready, "the policy is back, but it is not ready")


def test_not_ready_with_a_worker_that_hangs(gate: Gate) -> None:
    """Its last word is "ready", but it is an old one."""
    pid = gate.pids()["worker-1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        _wait(lambda: not gate.is_ready(), "ready with a worker that hangs")
        assert json.loads(gate.ask("/ready")[1])["problems"] == {"worker-1": "does not answer"}
    finally:
        os.kill(pid, signal.SIGCONT)
    _wait(gate.is_ready, "the worker is back, but it is not ready")


# What it keeps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worker-0", "shipper"])
def test_process_that_dies_is_started_again(gate: Gate, name: str) -> None:
    others = {other: pid for other, pid in gate.pids().items() if other != name}
    gate.kill(name)
    _wait(gate.is_ready, "not ready again")
    assert {other: pid for other, pid in gate.pids().items() if other != name} == others
    assert {"event": "process ended, starting it again", "role": name, "status": -9} in [
        {key: line.get(key) for key in ("event", "role", "status")} for line in gate.log()
    ]


def test_fork_server_that_dies(own: Gate) -> None:
    """What it had forked goes on, and the next worker comes from another one."""
    before = own.pids()
    os.kill(_fork_server_of(before), signal.SIGKILL)
    _wait(
        lambda: "fork server is gone, starting another when it is needed" in [line.get("event") for line in own.log()],
        "not noticed",
    )
    assert own.is_ready()
    os.kill(before["worker-0"], signal.SIGKILL)
    _wait(lambda: own.pids()["worker-0"] != before["worker-0"], "no other worker")
    _wait(own.is_ready, "not ready again")
    others = ("supervisor", "worker-1", "shipper")
    assert {name: own.pids()[name] for name in others} == {name: before[name] for name in others}


async def test_adopted_process_that_died_is_buried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper of a worker that died is the supervisor's, and nobody else waits for it."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.1)
    adopt_orphans()
    script = ["sh", "-c", "sleep 0.1 > /dev/null & echo $!"]
    said = await asyncio.to_thread(subprocess.run, script, capture_output=True, text=True, check=True)
    over = asyncio.Event()
    burying = asyncio.create_task(_Supervisor(tmp_path / "config.yaml")._bury(over))
    async with asyncio.timeout(WAIT_SECONDS):
        while Path(f"/proc/{said.stdout.strip()}").exists():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    over.set()
    await burying


async def test_process_that_dies_at_once_is_started_ever_more_slowly(tmp_path: Path) -> None:

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    starts: list[float] = []
    over = asyncio.Event()

    class Failing(_Supervisor):
        async def _start(self, role: _Role) -> Child:
            starts.append(time.monotonic())
            if len(starts) == 5:
                over.set()
            return await _ended(1)

    await Failing(tmp_path / "config.yaml")._keep(_Role("worker-0", ()), over)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert [gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8, 1.6), strict=True)] == [True] * 4


async def test_start_that_takes_long_and_fails_is_tried_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server imports for seconds, and may end each time."""

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", 0.1)
    starts: list[float] = []
    over = asyncio.Event()

    class Failing(_Supervisor):
        async def _start(self, role: _Role) -> Child:
            starts.append(time.monotonic())
            if len(starts) == 4:
                over.set()
            await asyncio.sleep(0.15)
            raise ChildProcessError("the fork server is gone")

    await Failing(tmp_path / "config.yaml")._keep(_Role("worker-0", ()), over)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert [gap >= least for gap, least in zip(gaps, (0.35, 0.55, 0.95), strict=True)] == [True] * 3


def _spawned(*command: str) -> int:
    return os.posix_spawnp(command[0], command, os.environ)


async def _ended(status: int) -> Child:
    pid = _spawned("sh", "-c", f"exit {status}")
    child = Child(pid, os.pidfd_open(pid))
    assert await child.wait() == status
    return child


def _waited_for() -> Child:
    """It is gone, and so is what the kernel knew of it."""
    pid = os.posix_spawnp("true", ["true"], os.environ)
    child = Child(pid, os.pidfd_open(pid))
    os.waitpid(pid, 0)
    return child


async def test_worker_that_has_just_died_does_not_refuse_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it has, the loop may not have seen yet. Its successor reads the new file."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    died = _waited_for()
    gate = _Supervisor(tmp_path / "config.yaml")
    gate._children["worker-0"] = died
    monkeypatch.setattr(gate, "_workers_with", lambda _: {f"worker-{index}" for index in range(gate._config.workers)})
    monkeypatch.setattr("ext_proc.app.edge_files.write_routes", lambda _: None)
    gate._call_workers()
    assert await gate._is_followed(gate._config, "digest", 1)
    assert await died.wait() == -1  # the test has taken what the kernel would have told


async def test_worker_that_follows_late_gets_its_routes_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is in force, and the others serve it: Envoy must not wait for somebody to ask again."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    gate = _Supervisor(path)
    (gate._config.run_dir / "state").mkdir(parents=True)
    having: set[str] = set()
    written: list[int] = []
    monkeypatch.setattr(gate, "_workers_with", lambda _: having)
    monkeypatch.setattr("ext_proc.app.edge_files.write_routes", lambda _: written.append(1))
    monkeypatch.setattr(supervisor, "RELOAD_SECONDS", 0.1)
    reloading = asyncio.create_task(gate._reload())
    async with asyncio.timeout(20):
        while gate._refusal is None:  # noqa: ASYNC110 - it rings no bell
            await asyncio.sleep(0.01)
        assert "until they have" in gate._refusal["why"] and not written
        having.update(f"worker-{index}" for index in range(gate._config.workers))
        await reloading
    assert written == [1] and gate._refusal is None


def test_keys_come_along_into_a_database_that_is_new(tmp_path: Path) -> None:
    """Before anything runs, and while nobody else can be in the folder."""
    _make_files(tmp_path)
    whole = _configuration(tmp_path, 1)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole))
    before = registry.keyring(load(tmp_path / "config.yaml")[0])
    before.registry.add("ada", 0, b"of ada")
    before.registry.close()
    whole["audit"]["registry_url"] = f"sqlite:///{tmp_path}/shared.sqlite"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole))
    config, _ = load(tmp_path / "config.yaml")
    for lock in _Supervisor(tmp_path / "config.yaml")._prepare(config):
        os.close(lock)
    found = registry.keyring(config).registry.key("ada", 0)
    assert found is not None and found.wrapped == b"of ada"


def _stopped() -> Child:
    pid = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
    os.kill(pid, signal.SIGSTOP)
    return Child(pid, os.pidfd_open(pid))


async def test_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves nobody, and would keep the replica from being ready for ever."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    gate = _Supervisor(tmp_path / "config.yaml")
    states = gate._config.run_dir / "state"
    states.mkdir(parents=True)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.02)
    child = _stopped()
    pid = child.pid
    (states / "worker-0.json").write_text(json.dumps({"pid": pid, "at": 1.0}))
    over = asyncio.Event()
    watching = asyncio.create_task(gate._watch(_Role("worker-0", ()), child, asyncio.ensure_future(over.wait())))
    assert await child.wait() == -signal.SIGKILL
    over.set()
    await watching


async def test_process_that_ends_while_it_is_stopped_is_no_error(tmp_path: Path) -> None:
    """The others would be cancelled in mid-exchange."""

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_configuration(tmp_path, 1)))
    child = await _ended(0)
    await _Supervisor(tmp_path / "config.yaml")._end(_Role("worker-0", ()), child)
    assert child.returncode == 0


def test_second_gate_in_the_same_folder_is_refused(gate: Gate) -> None:
    """It would take the first one's sockets away."""
    before = gate.pids()
    done = _serve(gate.config)
    assert done.returncode == 2
    assert "another `affidavit serve` runs" in done.stderr
    assert "Traceback" not in done.stderr
    assert gate.pids() == before
    assert gate.is_ready()


# What it changes ------------------------------------------------------------------------------------------------------


def test_second_gate_with_the_same_evidence_is_refused(gate: Gate, tmp_path: Path) -> None:
    """With a folder of its own for sockets: its shipper would end the first one's logs."""
    before = gate.pids()
    changed = yaml.safe_load(gate.config.read_text()) | {"run_dir": str(tmp_path / "run")}
    changed["metrics"] = "127.0.0.1:1"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed))
    done = _serve(tmp_path / "config.yaml")
    assert done.returncode == 2
    assert "state_dir: another `affidavit serve` runs" in done.stderr
    assert gate.pids() == before


def _routes(gate: Gate) -> str:
    return (gate.folder / "run" / "envoy" / "routes.json").read_text()


def _hang_up(gate: Gate) -> dict[str, Any]:
    """SIGHUP, as if by hand, and what the supervisor says to it."""
    before = read_states(gate.folder / "run")["supervisor"]
    os.kill(gate.program.pid, signal.SIGHUP)
    return _wait(
        lambda: (now := read_states(gate.folder / "run")["supervisor"]) != before and now, "the supervisor says nothing"
    )


def test_changed_connections_are_taken_over(gate: Gate) -> None:
    before = gate.pids()
    gate.change(
        lambda config: config["connections"].append({**config["connections"][0], "name": "added", "hosts": ["a"]})
    )
    done = gate.command("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert "connections: model, added" in done.stdout
    assert '"added"' in _routes(gate)  # the command returns when Envoy has it
    assert gate.pids() == before
    assert (gate.folder / "run" / "accepted.yaml").read_bytes() == gate.config.read_bytes()
    gate.change(lambda config: config["connections"].pop())
    assert gate.command("reload").returncode == 0
    assert '"added"' not in _routes(gate)


def test_reload_by_the_endpoints_file_of_a_demo(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(json.dumps({"config": str(gate.config)}))
    assert cli.main(["reload", "--endpoints", str(endpoints)]) == 0
    assert "connections: model" in capsys.readouterr().out


def test_reload_without_a_change(gate: Gate) -> None:
    assert gate.command("reload").returncode == 0


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "not valid": (lambda config: config.update(workers="two"), "workers: "),
    "another section": (
        lambda config: config.update(drain_seconds=3, workers=3),
        "more than connections changed (workers, drain_seconds), which needs a restart",
    ),
    "a larger body": (
        lambda config: config["connections"][0].update(request_limit_bytes=5 * 1024 * 1024),
        "a larger body limit needs a restart",
    ),
    "an upstream that is no address": (
        lambda config: config["connections"][0]["upstream"].update(url="http://[::1:8000"),
        "connections.model.upstream.url",
    ),
    "a port that is none": (
        lambda config: config["connections"][0]["upstream"].update(url="http://[x]:8000"),
        "connections.model.upstream.url",
    ),
    "an upstream that is none": (
        lambda config: config["connections"][0]["upstream"].update(url="http://a@b"),
        "connections.0.upstream.url (connection model)",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_change_that_is_not_taken_over(gate: Gate, why: str) -> None:
    """What runs goes on, also where a worker is started again meanwhile: it must not take up the changed file."""
    change, expected = REFUSED[why]
    original, routes = gate.config.read_bytes(), _routes(gate)
    try:
        gate.change(change)
        done = gate.command("reload")
        assert done.returncode in (1, 2)
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
        assert expected in _hang_up(gate)["refused"]["why"]
        assert _routes(gate) == routes
        assert (gate.folder / "run" / "accepted.yaml").read_bytes() == original
        if why == "not valid":
            gate.kill("worker-0")
            _wait(gate.is_ready, "a worker could not be started again")
        assert gate.is_ready()
    finally:
        gate.config.write_bytes(original)
    assert gate.command("reload").returncode == 0


def test_reload_where_nothing_runs(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(gate.config.read_text()), "run_dir": str(tmp_path / "run")}))
    assert cli.main(["reload", "--config", str(path)]) == 2
    assert "nothing runs in" in capsys.readouterr().err


# How it ends ----------------------------------------------------------------------------------------------------------


def test_stops_in_order_when_asked(own: Gate) -> None:
    """Workers give what is in flight its time; the shipper goes last, so that it sees the end of their logs."""
    pids = own.pids()
    release = threading.Event()

    def questions() -> Iterator[Any]:
        release.wait(WAIT_SECONDS)
        yield from ()

    with grpc.insecure_channel(f"unix:{own.folder}/run/worker-0.sock") as channel:
        stream = external_processor_pb2_grpc.ExternalProcessorStub(channel).Process(questions())
        grpc.channel_ready_future(channel).result(WAIT_SECONDS)
        _wait(lambda: "\naffidavit_exchanges_in_flight 1.0" in own.ask("/metrics")[1], "the stream does not open")
        own.program.process.send_signal(signal.SIGTERM)
        _wait(lambda: not _is_running(pids["worker-1"]), "the idle worker stays")
        assert _is_running(pids["worker-0"]), "a worker left an exchange in flight"
        assert _is_running(pids["shipper"]), "the shipper left before the workers"
        release.set()
        assert list(stream) == []
        assert stream.code() is grpc.StatusCode.OK  # Envoy ended it, so it may end well
    assert own.program.process.wait(WAIT_SECONDS) == 0
    assert [name for name, pid in pids.items() if _is_running(pid)] == []
    left = [path.name for path in (own.folder / "state" / "evidence").iterdir() if path.is_dir()]
    assert left == [], "a log was not ended, sealed, shipped and freed"


def test_stops_where_all_are_asked_to_end_at_once(own: Gate) -> None:
    """As by an init that knows a group only: the shipper comes from a new fork server, and does its last round."""
    pids = own.pids()
    for pid in {_fork_server_of(pids), *pids.values()}:
        os.kill(pid, signal.SIGTERM)
    assert own.program.process.wait(WAIT_SECONDS) == 0
    assert [name for name, pid in pids.items() if _is_running(pid)] == []
    left = [path.name for path in (own.folder / "state" / "evidence").iterdir() if path.is_dir()]
    assert left == [], "a log was not ended, sealed, shipped and freed"


def test_children_end_with_a_supervisor_that_is_killed(own: Gate) -> None:
    pids = own.pids()
    own.program.process.kill()
    own.program.process.wait()
    _wait(lambda: not [name for name, pid in pids.items() if _is_running(pid)], "processes are left")


# How it does not begin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"identity": {"issuers": [{"issuer": "http://a.example", "audiences": ["a"]}]}}, "identity.issuers: http://a"),
        ({"run_dir": "/proc/no"}, "run_dir or state_dir: "),
        ({"state_dir": "/proc/no"}, "run_dir or state_dir: "),
    ],
)
def test_what_cannot_work_is_not_begun(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    [port] = free_ports(1)
    path = tmp_path / "config.yaml"
    _make_files(tmp_path)
    path.write_text(yaml.safe_dump({**_configuration(tmp_path, port), **change}))
    done = _serve(path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("keys/key-encryption-key", None, "key-encryption-key: is not there"),
        ("keys/pepper", b"short", "pepper: 32 bytes are needed"),
        ("keys/hash-key", None, "hash-key: is not there"),
        ("bundle.tar.gz", None, "bundle.tar.gz: No such file or directory"),
        ("bundle.tar.gz", b"nonsense", "bundle.tar.gz: not a policy bundle"),
    ],
)
def test_files_without_which_no_worker_starts(tmp_path: Path, file: str, content: bytes | None, expected: str) -> None:
    """It would start them again for ever, and tell nobody but the log."""
    [port] = free_ports(1)
    _make_files(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_configuration(tmp_path, port)))
    done = _serve(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("affidavit: configuration: ")
    assert done.stderr.endswith(f"{expected}\n") or f"{expected};" in done.stderr
    assert "process started" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_metrics_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    _make_files(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(_configuration(tmp_path, listener.getsockname()[1])))
        done = _serve(path)
    assert done.returncode == 2
    assert "metrics: cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr
