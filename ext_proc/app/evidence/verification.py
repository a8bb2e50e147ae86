"""The verification of the whole bucket beside the console: at most once an hour, in a process of its own, kept.

It is `affidavit verify`, which trusts none of us, as an auditor would run it: with the policy file that we give them.
It reads the whole bucket, so the next one waits longer where the last one took long.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc import files, telemetry
from ext_proc.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ext_proc.config import Config

EVERY: Final = timedelta(hours=1)
_SHARE: Final = 20
"""Of the time one of so many parts is spent verifying, at most."""
_NICE: Final = 19
_FINDINGS_MAX: Final = 200
_STOP_SECONDS: Final = 10.0
CREDENTIALS: Final = "AWS_SHARED_CREDENTIALS_FILE"
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class Told:
    """How the last one ended. ``findings``: code, object, explanation."""

    began_at: datetime
    took: timedelta
    is_ok: bool
    records: int
    logs: int
    findings: tuple[tuple[str, str, str], ...]


class WholeVerification:
    """Runs it, and keeps what it said in ``folder``.

    Args:
        folder: of the console.
        source: the bucket, as `affidavit verify` takes it.
        policy: the auditor's policy, asked for each time.
        environment: for the process: how the bucket is reached.
        clock: aware UTC.
        command: the program; another one in tests.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        policy: Callable[[], Mapping[str, Any]],
        environment: Mapping[str, str],
        clock: Callable[[], datetime],
        command: Sequence[str] = (sys.executable, "-m", "ext_proc", "verify"),
    ) -> None:
        self._folder = folder
        self._source = source
        self._policy = policy
        self._environment = dict(environment)
        self._clock = clock
        self._command = tuple(command)
        self._lock = Lock()  # guards the two below
        self._thread: Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._tried_at: datetime | None = None

    def last(self) -> Told | None:
        """The last one that ran to its end; None: there is none, or what was kept of it cannot be read."""
        try:
            told = json.loads(self._kept.read_bytes())
            if told["source"] != self._source:
                return None
            findings = tuple(
                (str(one["code"]), str(one["object"]), str(one["explanation"])) for one in told["findings"]
            )
            return Told(
                datetime.fromisoformat(told["began_at"]),
                timedelta(seconds=told["took_seconds"]),
                told["ok"] is True,
                int(told["leaves"]),
                int(told["epochs"]),
                findings,
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin_if_due(self) -> bool:
        """Begin one in the background, if none runs and the last one is long enough ago. Was one begun?"""
        with self._lock:
            now = self._clock()
            if (self._thread is not None and self._thread.is_alive()) or not self._is_due(now):
                return False
            self._tried_at = now
            self._thread = Thread(target=self._run, args=(now,), name="whole-verification", daemon=True)
            self._thread.start()
            return True

    def wait(self) -> None:
        """Until none runs any more."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def stop(self) -> None:
        """End it; what it would have said is not kept."""
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        thread = self._thread
        if thread is not None:
            thread.join(_STOP_SECONDS)

    @property
    def _kept(self) -> Path:
        return self._folder / "verification.json"

    def _is_due(self, now: datetime) -> bool:
        if self._tried_at is not None and now - self._tried_at < EVERY:
            return False
        last = self.last()
        return last is None or not timedelta() <= now - last.began_at < max(EVERY, _SHARE * last.took)

    def _run(self, began_at: datetime) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._folder / "verification.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return  # another console's runs
                self._verify(began_at)
        except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError, GateError) as error:
            _log.warning("console.verification_failed", detail=str(error))

    def _verify(self, began_at: datetime) -> None:
        policy = self._folder / "verification-policy.yaml"
        policy.write_text(yaml.safe_dump(dict(self._policy())))
        arguments = [*self._command, self._source, "--policy", str(policy), "--jobs", "1", "--json"]
        environment = {**os.environ, **self._environment}
        if CREDENTIALS in self._environment:  # else keys of our own environment would come before the file's
            environment = {name: value for name, value in environment.items() if name not in KEYS}
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        with self._lock:
            self._process = process
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
        except OSError:
            _log.warning("console.verification_priority", pid=process.pid)
        out, complaints = process.communicate()
        if process.returncode not in {0, 1}:
            said = complaints.decode(errors="replace").strip()[-500:]
            _log.warning("console.verification_failed", status=process.returncode, detail=said)
            return
        report = json.loads(out)
        took = (self._clock() - began_at).total_seconds()
        kept = {
            "source": self._source,
            "began_at": began_at.isoformat(),
            "took_seconds": took,
            "ok": report["ok"],
            "leaves": report["leaves"],
            "epochs": report["epochs"],
            "findings": report["findings"][:_FINDINGS_MAX],
        }
        files.replace(self._kept, json.dumps(kept), is_durable=False)


def environment_of(config: Config) -> dict[str, str]:
    """How another process of ours reaches the bucket that is configured."""
    s3 = config.audit.s3
    told = {
        "AWS_REGION": s3.region,
        "AWS_DEFAULT_REGION": s3.region,  # which of the two is read depends on the library
        "AWS_ENDPOINT_URL": s3.endpoint,
        CREDENTIALS: str(s3.credentials_file) if s3.credentials_file else None,
    }
    made = {name: value for name, value in told.items() if value}
    if s3.credentials_file:
        made |= {"AWS_PROFILE": "default"}
    return made
