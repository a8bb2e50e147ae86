"""Ask a bundle again what was asked before: `opa eval` in a process of its own, without a network, many at a time.

Nothing that answers differently each time may be called, and nothing that asks others: the capabilities say so, and
where the machine allows it (`unshare`) the process has no network at all. Errors in built-ins are errors, as they are
for the gate.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK_SECONDS: Final = 300.0
"""For one run: far more than any takes, so that nothing hangs."""
_START_SECONDS: Final = 60.0
_HARMLESS: Final = frozenset({"json.match_schema", "json.verify_schema"})
"""Called changing only because a schema may lie on the network, which is off."""
_CLOCKED: Final = frozenset(
    {"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options"}
)
"""Certificates count or not by the clock of the machine, which OPA does not call changing (1.22)."""
_OWN: Final = ["data", "system"]
_ISOLATED: Final = ("unshare", "--user", "--map-root-user", "--net", "--")
_WHY_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Failed:
    """The bundle has no answer to a question, only an error."""

    why: str


def capabilities(opa: Path) -> dict[str, Any]:
    """What a policy may call if its decisions are to be made again: no clock, no chance, no network.

    Raises:
        ConfigError: OPA does not say what it can do.
    """
    done = _run([str(opa), "capabilities", "--current"], "", _START_SECONDS)
    try:
        known: dict[str, Any] = json.loads(done.stdout)
        kept = [one for one in known["builtins"] if _may_be_called(one)]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"opa capabilities: {done.stderr.strip()[:_WHY_MAX]}") from None
    return {**known, "builtins": kept, "allow_net": []}


def write_capabilities(opa: Path, folder: Path) -> Path:
    """`capabilities` as the file that ``opa --capabilities`` takes, in a folder.

    Raises:
        ConfigError: OPA does not say.
    """
    path = folder / "capabilities.json"
    path.write_text(json.dumps(capabilities(opa)))
    return path


def _may_be_called(built_in: dict[str, Any]) -> bool:
    name = built_in["name"]
    return name in _HARMLESS or not (built_in.get("nondeterministic") or name in _CLOCKED)


def looks_at_opa(opa: Path, folder: Path) -> list[str]:
    """What the rules in a folder read of OPA's own (``data.system``: which bundle is active, say), by whatever name.

    It is another thing at the gate than where a policy is checked, or asked again: a rule could tell the two apart.

    Raises:
        ConfigError: OPA does not say.
    """
    command = ["deps", "--bundle", ".", "--ignore", "*_test.rego", "--ignore", "schemas", "--format", "json", "data"]
    done = _run([str(opa), *command], "", _START_SECONDS, folder)
    try:
        base = json.loads(done.stdout).get("base") or []
        found = [[str(term["value"]) for term in one] for one in base]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"opa deps: {(done.stderr or done.stdout).strip()[:_WHY_MAX]}") from None
    # ``data`` alone is what OPA says where nothing is read: no rule can look at all of it, which has itself inside.
    return sorted({".".join(one) for one in found if one[:2] == _OWN})


def can_isolate() -> bool:
    """Can a process be run here that has no network?"""
    try:
        return _run([*_ISOLATED, "true"], "", _START_SECONDS).returncode == 0
    except ConfigError:
        return False


class Asker:
    """One bundle. Use it as a context manager; safe to use from several threads.

    Args:
        opa: the program.
        bundle: the file.
        decision: the rule, with dots (`package.rule`).

    Raises:
        ConfigError: entering: the bundle cannot be loaded, or calls what it must not.
    """

    def __init__(self, opa: Path, bundle: Path, decision: str) -> None:
        self.opa = opa
        self.bundle = bundle
        self.decision = decision
        self.is_isolated = False
        """Once entered: are its processes kept from the network by the system, too?"""
        self._folder: Any = None
        self._able: Path | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="affidavit-ask-")
        try:
            self._able = write_capabilities(self.opa, Path(self._folder.name))
            self.is_isolated = can_isolate()
            tried = self._eval([])
            if isinstance(tried, Failed):
                raise ConfigError(f"the bundle cannot be asked: {tried.why}")
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def ask_all(self, questions: Sequence[str]) -> list[Any]:
        """The answers to ``questions`` (JSON texts), in their order: what the rule says, `Failed`, None: undefined.

        Raises:
            ConfigError: OPA cannot be run, or does not end.
        """
        if not questions:
            return []
        answers = self._eval(questions)
        if not isinstance(answers, Failed):
            return answers
        if len(questions) == 1:
            return [answers]
        half = len(questions) // 2  # one of them spoils the lot: which?
        return self.ask_all(questions[:half]) + self.ask_all(questions[half:])

    def _eval(self, questions: Sequence[str]) -> list[Any] | Failed:
        query = f"[[i, d] | some i, q in input.questions; d := data.{self.decision} with input as q]"
        command = [
            *(_ISOLATED if self.is_isolated else ()),
            *(str(self.opa), "eval", "--bundle", str(self.bundle.absolute()), "--stdin-input", "--format", "raw"),
            *("--strict-builtin-errors", "--capabilities", str(self._able), query),
        ]
        done = _run(command, f'{{"questions":[{",".join(questions)}]}}', ASK_SECONDS)
        if done.returncode != 0:
            return Failed((done.stderr or done.stdout).strip()[:_WHY_MAX])
        try:
            found = {number: answer for number, answer in orjson.loads(done.stdout)}  # noqa: C416 - pairs as lists
        except (ValueError, TypeError):
            return Failed("opa eval: its answer cannot be read")
        return [found.get(number) for number in range(len(questions))]


def _run(
    command: list[str], given: str, seconds: float, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # Nothing of ours but the way to programs. Garbage is collected seldom, for it lives for seconds; and on one core:
    # others run beside it.
    environment = {"PATH": os.environ.get("PATH", ""), "GOGC": "800", "GOMAXPROCS": "1"}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{Path(command[0]).name} {command[1]}: {type(error).__name__}") from None
