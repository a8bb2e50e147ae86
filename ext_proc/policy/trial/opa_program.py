"""OPA, run by an author's command: once for an answer, or as a server for thousands.

A server's questions go in lots, one query for each: OPA then spends its time on rules instead of on HTTP. Such a query
passes over errors in built-ins (strict, one bad question would spoil its lot); `Server.ask` asks one question as the
gate does, strictly.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.trial.defaults import DECISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS: Final = 120.0
"""For one run of OPA, or one answer: far more than any takes, so that nothing hangs."""
READY_SECONDS: Final = 30.0
LOT: Final = 200
AT_ONCE: Final = 2
_NOT_LOADED: Final = ("--ignore", "*_test.rego", "--ignore", "schemas")
"""As `bundle.build` leaves them out of a bundle."""
_OK: Final = 200
_CHECKOUT: Final = Path(__file__).resolve().parents[3]
LIBRARY: Final = _CHECKOUT / "opa"
"""The policy that ships."""


def find_opa(given: Path | None) -> Path:
    """The program: as given, or on the PATH, or where `make setup` puts it.

    Raises:
        ConfigError: there is none.
    """
    ours = _CHECKOUT / ".tools" / "bin" / "opa"
    on_path = shutil.which("opa")
    found = given or (ours if ours.exists() else Path(on_path) if on_path else None)
    if found is None or not found.is_file() or not os.access(found, os.X_OK):
        raise ConfigError(f"{found or 'opa'}: no OPA to run; name it with --opa, or put it on the PATH")
    return found.absolute()


def sources(folder: Path) -> Path:
    """A folder of policy sources.

    Raises:
        ConfigError: it is none.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if not any(folder.rglob("*.rego")):
        raise ConfigError(f"{folder}: no .rego file in it")
    return folder


def run(
    opa: Path, arguments: Sequence[str], folder: Path, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it once, inside the folder: what it says of files is then said from there.

    Raises:
        ConfigError: it cannot be run, or does not end.
    """
    command = [str(opa), *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"opa {arguments[0]}: {type(error).__name__}") from None


def evaluate(opa: Path, folder: Path, question: Any, query: str, *more: str) -> dict[str, Any]:
    """One `opa eval` of the sources in a folder, with errors in built-ins as errors.

    Raises:
        ConfigError: OPA gives no answer: the detail is what it said.
    """
    command = ["eval", "--bundle", ".", *_NOT_LOADED, "--stdin-input", "--format", "json", *more, query]
    done = run(opa, command, folder, json.dumps(question))
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ConfigError(f"opa eval: {done.stderr.strip()}") from None
    if answer.get("errors"):
        raise ConfigError("opa eval: " + "; ".join(one.get("message", "?") for one in answer["errors"]))
    return answer


@contextmanager
def serving(opa: Path, folder: Path, decision: str = DECISION) -> Iterator[Server]:
    """A server with the sources of a folder, on a Unix socket that nobody else knows of.

    Raises:
        ConfigError: it does not start: the detail is what it said.
    """
    with tempfile.TemporaryDirectory(prefix="affidavit-opa-") as own:
        at, log = Path(own) / "s", Path(own) / "log"
        command = [
            *(str(opa), "run", "--server", "--addr", f"unix://{at}", "--unix-socket-perm", "600"),
            *("--skip-version-check", "--log-level", "error", "--bundle", ".", *_NOT_LOADED),
        ]
        # Garbage is collected more seldom than a server's should be: this one lives for seconds.
        environment = {**os.environ, "GOGC": "800"}
        try:
            with log.open("wb") as said:
                process = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
                )
        except OSError as error:
            raise ConfigError(f"{opa}: {error.strerror}") from None
        try:
            server = Server(at, decision)
            _wait_until(lambda: process.poll() is not None or server.is_ready())
            if process.poll() is not None or not server.is_ready():
                raise ConfigError(f"opa run: {log.read_text(errors='replace').strip()[-2000:] or 'does not start'}")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_SECONDS
    while not is_so() and time.monotonic() < until:
        time.sleep(0.02)


class Server:
    """A running OPA.

    Args:
        at: its socket.
        decision: the rule that is asked for, with slashes.
    """

    def __init__(self, at: Path, decision: str) -> None:
        self._at = at
        self._path = decision
        name = "data." + decision.replace("/", ".")
        self._query = f"answers = {{i: d | some i, q in input; d := {name} with input as q}}"
        self.asked = 0
        """How many questions were answered."""

    def is_ready(self) -> bool:
        """Does it answer, with its policy loaded?"""
        return self._request("GET", "/health?bundles", None)[0] == _OK

    def ask(self, question: Any) -> Any:
        """The answer as the gate gets it: errors in built-ins are errors. None: no decision."""
        self.asked += 1
        status, body = self._request(
            "POST", f"/v1/data/{self._path}?strict-builtin-errors=true", json.dumps({"input": question})
        )
        return json.loads(body).get("result") if status == _OK else None

    def lets(self, method: str, path: str) -> bool:
        """Would OPA do this for a stranger, if it asked its own authorization (`--authorization basic`)?"""
        asked = {"method": method, "path": path.split("/"), "headers": {}, "params": {}}
        status, body = self._request("POST", "/v1/data/system/authz/allow", json.dumps({"input": asked}))
        return status == _OK and json.loads(body).get("result") not in (None, False)

    def ask_all(self, questions: Sequence[Any], told: Callable[[int], None] = lambda _: None) -> list[Any]:
        """Answers in the questions' order, None where there is no decision; ``told`` hears how many more are answered.

        Raises:
            ConfigError: OPA answers a lot with an error.
        """
        lots = [questions[start : start + LOT] for start in range(0, len(questions), LOT)]
        answers: list[Any] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for some in pool.map(self._ask_lot, lots):
                answers.extend(some)
                told(len(some))
        return answers

    def _ask_lot(self, lot: Sequence[Any]) -> list[Any]:
        status, body = self._request("POST", "/v1/query", json.dumps({"query": self._query, "input": lot}))
        try:
            [row] = json.loads(body)["result"]
            answers = row["answers"]
        except (ValueError, KeyError, TypeError):
            said = body.decode(errors="replace").strip()[:500]
            raise ConfigError(f"opa: status {status}: {said}") from None
        self.asked += len(lot)
        return [answers.get(str(number)) for number in range(len(lot))]

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        """Status 0 if nobody answers."""
        connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(SECONDS)
            connection.sock.connect(str(self._at))
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
