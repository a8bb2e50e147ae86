"""The whole gateway on loopback: started in order, stopped in reverse, by process id."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ext_proc.app.commands import said_by_demo
from ext_proc.app.evidence.auditing import auditor_policy
from ext_proc.app.process import clock, read_states
from ext_proc.audit.keys import create_key_files
from ext_proc.config import load
from ext_proc.demo import servers
from ext_proc.demo.envoy import start_envoy
from ext_proc.demo.issuer import AUDIENCE
from ext_proc.demo.programs import Program, ProgramError, free_ports
from ext_proc.demo.seaweed import Seaweed, start_seaweed
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RETENTION_DAYS: Final = 400


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What may differ: another model server, more workers, changes to the configuration (merged over the demo's)."""

    upstream: str | None = None
    workers: int = 2
    changes: Mapping[str, Any] = field(default_factory=dict)
    seal_seconds: float = 1.0
    """Evidence is shipped every second, for people who watch; the benchmark takes the configuration's default."""
    connection: Mapping[str, Any] = field(default_factory=dict)
    with_console: bool = False
    """A program more that writes evidence, and takes seconds to start."""
    policy: Path = servers.POLICY_SOURCES
    """The folder of the policy's sources."""


class Stack:
    """A running gateway with everything that it stands on.

    Args:
        folder: where its files go; kept or removed by the caller.
        options: what differs from the demo.
        say: told what is being started.
    """

    def __init__(self, folder: Path, options: StackOptions, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.config = folder / "config.yaml"
        self.credential = secrets.token_urlsafe(32)
        """The planted upstream credential: callers never see it."""
        self._options = options
        self._say = say
        self.programs: dict[str, Program] = {}
        self.ports: dict[str, int] = {}
        self.issuer = ""
        self.s3: Seaweed

    # Starting and stopping -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything.

        Raises:
            ProgramError: a program does not start; the others are stopped.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        create_key_files(keys, "key-encryption-key", "pepper", "hash-key", "log-key", "receipt-key")
        credential = keys / "upstream-credential"
        credential.touch(0o600)
        credential.write_text(self.credential + "\n")
        self._make_certificate(keys)
        self._say("the S3 server (SeaweedFS) with a locked bucket")
        self.s3 = start_seaweed(self.folder, self.logs, RETENTION_DAYS)
        self.programs["seaweedfs"] = self.s3.program
        s3_credentials = keys / "s3-credentials"
        s3_credentials.touch(0o600)
        s3_credentials.write_text(
            f"[default]\naws_access_key_id={self.s3.access_key}\naws_secret_access_key={self.s3.secret_key}\n"
        )
        self._say("the OIDC issuer")
        self.programs["issuer"], self.issuer = servers.start_issuer(self.logs)
        self._say("OPA with the policy bundle")
        servers.build_bundle(self.folder / "bundle.tar.gz", self._options.policy)
        self.start_opa()
        upstream = self._options.upstream
        if upstream is None:
            self._say("the model (SmolLM2-135M)")
            self.programs["model"], upstream = servers.start_model(credential, self.logs)
        names = ("http", "tls", "admin", "metrics", "console", "console_metrics")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.config.write_text(yaml.safe_dump(self._configuration(keys, upstream), sort_keys=False))
        policy = auditor_policy(load(self.config)[0])
        self.auditor_policy.write_text(yaml.safe_dump(policy, sort_keys=False))
        self._say("the gate: supervisor, workers, shipper")
        gate = servers.start_gate(self.config, self.ports["metrics"], self.logs)
        self.programs["supervisor"] = gate
        gate.wait_until(lambda: "shipper" in self.pids())
        self._say("Envoy")
        self.start_envoy()
        if self._options.with_console:
            self._say("the console")
            self.programs["console"] = servers.start_console(self.config, self.ports["console"], self.logs)

    def start_envoy(self) -> None:
        """Start (or start again) Envoy."""
        bootstrap = self.folder / "run" / "envoy" / "bootstrap.yaml"
        admin = f"http://127.0.0.1:{self.ports['admin']}"
        self.programs["envoy"] = start_envoy(bootstrap, admin, self.logs, concurrency=1)

    def start_opa(self) -> None:
        """Start (or start again) OPA."""
        self.opa_socket.unlink(missing_ok=True)
        self.programs["opa"] = servers.start_opa(self.opa_socket, self.folder / "bundle.tar.gz", self.logs)

    def stop(self) -> None:
        """Stop everything, in reverse."""
        for program in reversed(self.programs.values()):
            program.stop()

    # What is where -------------------------------------------------------------------------------------------------

    @property
    def opa_socket(self) -> Path:
        """OPA's socket."""
        return self.folder / "opa.sock"

    @property
    def gateway(self) -> str:
        """The base URL over plain HTTP, without ``/v1``."""
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def console(self) -> str:
        """The console's address."""
        return f"http://127.0.0.1:{self.ports['console']}"

    @property
    def certificate(self) -> Path:
        """The TLS listener's self-signed certificate."""
        return self.folder / "keys" / "server.pem"

    @property
    def auditor_policy(self) -> Path:
        """What an auditor needs beside the bucket."""
        return self.folder / "auditor-policy.yaml"

    @property
    def access_log(self) -> Path:
        """Envoy's access log."""
        return self.folder / "state" / "access" / "access.jsonl"

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        states = read_states(self.folder / "run")
        named = {name: program.pid for name, program in self.programs.items()}
        return named | {name: state["pid"] for name, state in states.items()}

    def endpoints(self) -> dict[str, Any]:
        """What is where, for programs."""
        return {
            "gateway": self.gateway,
            "gateway_tls": f"https://127.0.0.1:{self.ports['tls']}",
            "console": self.console,
            "approvals": f"{self.console}/api/v1/holds",
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "s3": {
                "endpoint": self.s3.endpoint,
                "bucket": self.s3.bucket,
                "prefix": "",
                "region": self.s3.region,
                "access_key": self.s3.access_key,
                "secret_key": self.s3.secret_key,
            },
            "envoy_admin": f"http://127.0.0.1:{self.ports['admin']}",
            "access_log": str(self.access_log),
            "opa": f"unix://{self.opa_socket}",
            "config": str(self.config),
            "policy": str(self.auditor_policy),
            "pids": self.pids(),
        }

    def token(self, subject: str, groups: list[str], **more: str) -> str:
        """An access token of the demo's issuer; ``more`` goes into the form: see `ext_proc.demo.issuer`."""
        return fetch_token(f"{self.issuer}/token", subject, groups, **more)

    def metrics(self) -> str:
        """The gate's metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["metrics"], timeout=5)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    # Making --------------------------------------------------------------------------------------------------------

    def _configuration(self, keys: Path, upstream: str) -> dict[str, Any]:
        run, state = self.folder / "run", self.folder / "state"
        state.mkdir(mode=0o700)
        connection = {
            "name": "demo",
            "path_prefix": "/v1/",
            "upstream": {"url": upstream.rstrip("/").removesuffix("/v1")},
            "credential": {"file": str(keys / "upstream-credential")},
            **self._options.connection,
        }
        return {
            "run_dir": str(run),
            "state_dir": str(state),
            "workers": self._options.workers,
            "drain_seconds": 5,
            "metrics": f"127.0.0.1:{self.ports['metrics']}",
            "listen": {
                "http": f"127.0.0.1:{self.ports['http']}",
                "admin": f"127.0.0.1:{self.ports['admin']}",
                "tls": {
                    "address": f"127.0.0.1:{self.ports['tls']}",
                    "certificate_file": str(keys / "server.pem"),
                    "key_file": str(keys / "server.key"),
                    "client_ca_file": str(keys / "server.pem"),
                },
            },
            "identity": {"issuers": [{"issuer": self.issuer, "audiences": [AUDIENCE]}]},
            "policy": {"opa_socket": str(self.opa_socket), "bundle_file": str(self.folder / "bundle.tar.gz")},
            "redaction": {"hash_key_file": str(keys / "hash-key")},
            "audit": {
                "origin": "demo.example/affidavit",
                "replica": "gw-0",
                "key_encryption_key_file": str(keys / "key-encryption-key"),
                "pepper_file": str(keys / "pepper"),
                "signing": {"file": str(keys / "log-key")},
                "receipt_key_file": str(keys / "receipt-key"),
                "wal": {"seal_seconds": self._options.seal_seconds},
                "s3": {
                    "bucket": self.s3.bucket,
                    "region": self.s3.region,
                    "endpoint": self.s3.endpoint,
                    "credentials_file": str(keys / "s3-credentials"),
                    "retention_days": RETENTION_DAYS,
                },
            },
            "console": {
                "listen": f"127.0.0.1:{self.ports['console']}",
                "metrics": f"127.0.0.1:{self.ports['console_metrics']}",
                "public_url": self.console,
                "roles": {
                    "approver": ["approvers"],
                    "auditor": ["auditors"],
                    "operator": ["operators"],
                    "policy_author": ["policy-authors"],
                },
            },
            "connections": [connection],
            **self._options.changes,
        }

    @staticmethod
    def _make_certificate(keys: Path) -> None:
        """A self-signed certificate for loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "affidavit demo")])
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        now = clock()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (keys / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = keys / "server.key"
        private.touch(0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def fetch_token(token_endpoint: str, subject: str, groups: list[str], **more: str) -> str:
    """Ask the demo's issuer for a token.

    Raises:
        ProgramError: it does not answer, or not with a token.
    """
    form = {"grant_type": "client_credentials", "subject": subject, "groups": " ".join(groups), **more}
    try:
        with urllib.request.urlopen(token_endpoint, urllib.parse.urlencode(form).encode(), timeout=10) as answer:
            token = json.load(answer)["access_token"]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        raise ProgramError(f"no token from {token_endpoint}: does the demo still run?") from None
    return str(token)


def print_token(subject: str, groups: list[str], endpoints: Path) -> int:
    """``affidavit demo token``."""
    try:
        print(fetch_token(said_by_demo(endpoints, "token_endpoint"), subject, groups))
    except ProgramError as error:
        print(f"affidavit: {error}", file=sys.stderr)
        return 2
    return 0


_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, also where a shell started us in the background, with SIGINT ignored."""

    def interrupt(*_: object) -> None:
        _heed_no_signals()
        with suppress(OSError):  # a terminal that is gone
            os.write(1, "\nstopping …\n".encode())  # not print: a signal may come in the middle of one
        raise KeyboardInterrupt

    before = {name: signal.getsignal(name) for name in _ENDING}
    for name in _ENDING:
        if name != signal.SIGHUP or before[name] != signal.SIG_IGN:  # `nohup` is meant
            signal.signal(name, interrupt)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _heed_no_signals() -> None:
    """From here on everything is being stopped, and a second Ctrl-C must not break that off."""
    for name in _ENDING:
        signal.signal(name, signal.SIG_IGN)


def run_demo(*, keep: bool, endpoints: Path | None, upstream: str | None, policy: Path | None = None) -> int:
    """``affidavit demo``: start everything, tell the story (or leave it running), stop everything."""
    problem = _problem_of_policy(policy, keep=keep) or _problem_of(endpoints, upstream)
    if problem is not None:
        print(f"affidavit: {problem}", file=sys.stderr)
        return 2
    try:
        _try_policy(policy)
    except ConfigError as error:  # OPA refuses it
        print(f"affidavit: --policy {policy}: {error.detail}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="affidavit-"))
    started = monotonic()

    def say(what: str) -> None:
        print(f"[{monotonic() - started:5.1f} s] {what}", flush=True)

    options = StackOptions(upstream=upstream, policy=policy or servers.POLICY_SOURCES, with_console=True)
    stack = Stack(folder, options, lambda what: say(f"starting {what}"))
    with _ended_by_signals():
        try:
            stack.start()
            say("ready")
            status = _run(stack, keep=keep, endpoints=endpoints)
        except ProgramError as error:
            print(f"affidavit: {error}", file=sys.stderr)
            status = 1
        except ConfigError as error:  # a policy that OPA refuses
            print(f"affidavit: {error.detail}", file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            status = 0 if keep else 130
        finally:
            _heed_no_signals()
            _withdraw(endpoints, stack)
            stack.stop()
    shutil.rmtree(folder, ignore_errors=True) if status in (0, 130) else print(f"files and logs: {folder}")
    return status


def _problem_of_policy(policy: Path | None, *, keep: bool) -> str | None:
    if policy is None:
        return None
    if not keep:
        return "--policy: goes with --keep: what the story tells is true of the policy that ships"
    if not (policy / "data.json").is_file() or not (policy / "system" / "authz.rego").is_file():
        return f"--policy: {policy}: a folder like opa/ is wanted, with inference/, system/authz.rego and data.json"
    return None


def _try_policy(policy: Path | None) -> None:
    """Builds it once before anything starts: a mistake in it is then the first thing that is said, in OPA's words."""
    if policy is not None:
        with tempfile.TemporaryDirectory(prefix="affidavit-policy-") as folder:
            servers.build_bundle(Path(folder) / "bundle.tar.gz", policy)


def _problem_of(endpoints: Path | None, upstream: str | None) -> str | None:
    """What would only come out when everything runs. An endpoints file of an earlier run goes: ours means "ready"."""
    if upstream is not None and not re.fullmatch(r"https?://[^/\s@?#]+(/v1)?/?", upstream):
        return "--upstream: scheme, host and port are wanted, for example http://127.0.0.1:8000"
    if endpoints is not None:
        if _is_in_use(endpoints):
            return f"--endpoints: {endpoints}: belongs to a demo that runs; stop it or name another file"
        try:
            endpoints.unlink(missing_ok=True)
            _beside(endpoints).touch(0o600)
            _beside(endpoints).unlink()
        except OSError as error:
            return f"--endpoints: {endpoints}: {error.strerror}"
    return None


def _run(stack: Stack, *, keep: bool, endpoints: Path | None) -> int:
    from ext_proc.demo.story import tell_story

    if endpoints is not None:
        _write_endpoints(endpoints, stack)
    if not keep:
        status = tell_story(stack)
        if status == 0:
            print(_NEXT, flush=True)
        return status
    print(f"gateway: {stack.gateway}/v1   files: {stack.folder}")
    print(f"console: {stack.console}   sign in as bob (approver), audrey (auditor) or oscar (operator)")
    print("Ctrl-C stops everything", flush=True)
    # What a signal raised can have been lost (in a finalizer), and from then on no other one is heeded.
    while signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        sleep(_LOOK_SECONDS)  # until one of `_ended_by_signals`
        for program in stack.programs.values():
            program.check()
    raise KeyboardInterrupt


_LOOK_SECONDS: Final = 1.0


_NEXT: Final = '\nnext: .venv/bin/affidavit demo --keep --endpoints /tmp/demo.json   (README, "A tour")'


def _is_in_use(endpoints: Path) -> bool:
    """Does the demo that wrote it still run? Its files are there too: another process may have the id by now."""
    try:
        told = json.loads(endpoints.read_text())
        os.kill(int(told["pids"]["supervisor"]), 0)
        return Path(told["config"]).exists()
    except PermissionError:  # of another user: it lives
        return True
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return False


def _withdraw(endpoints: Path | None, stack: Stack) -> None:
    """Remove the file if it is still ours: it holds S3 keys, and nothing that it names is there any more."""
    if endpoints is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(endpoints.read_text())["config"] == str(stack.config):
                endpoints.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _write_endpoints(path: Path, stack: Stack) -> None:
    """For its owner only (it holds S3 keys), and whole or not at all."""
    descriptor = os.open(_beside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(stack.endpoints(), file, indent=1)
    _beside(path).replace(path)
