"""``affidavit doctor``: is this running installation as it must be, and what is to be done where it is not?

Each check is asked for itself, and one that cannot be made says so: a doctor who falls silent is no doctor. Nothing is
changed, but for a file of a few kilobytes beside the evidence that is written, synced and removed. What only an attack
can tell (does the store let an object go?) the canary tries every day; its newest findings are read here.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from ext_proc.app import edge_files
from ext_proc.app.doctor import disk, edge, envoy, keys, store
from ext_proc.app.doctor.asking import Unreachable, told_by_envoy
from ext_proc.app.doctor.envoy import FAIL, OK, WARN, Finding
from ext_proc.app.process import clock, is_supervised, read_states
from ext_proc.app.registry import access_log_path
from ext_proc.app.serving.standing import Standing
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.config.fields import socket_of
from ext_proc.errors import GateError
from ext_proc.strict_yaml import BadYamlError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ext_proc.config import Config

_STYLES: Final = {OK: "green", WARN: "yellow", FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: the configuration, its file's SHA-256, and what the running processes last said."""

    config: Config
    digest: str
    states: Mapping[str, Mapping[str, Any]]
    clock: Callable[[], datetime]
    policy_file: Path | None = None

    @property
    def now(self) -> datetime:
        """By our clock."""
        return self.clock()


Check = Callable[[Patient], Iterator[Finding]]


def run(path: Path, policy_file: Path | None, *, as_json: bool) -> int:
    """Exit status 0: nothing fails; 1: something does; 2 (raised): the configuration cannot be read."""
    config, digest = load(path)
    found = examine(Patient(config, digest, read_states(config.run_dir), clock, policy_file))
    if as_json:
        lines = [{"check": one.check, "verdict": one.verdict, "says": one.says, "do": one.do} for one in found]
        print(json.dumps({"ok": not _fails(found), "findings": lines}))
    else:
        _tell(found)
    return 1 if _fails(found) else 0


def examine(patient: Patient) -> list[Finding]:
    """Every check, whatever the others say."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            found += check(patient)
        except (GateError, Unreachable, StoreUnavailable, StoreRefused, BadYamlError) as error:
            said = getattr(error, "detail", "") or str(error)
            found.append(Finding(name, FAIL, f"could not be looked at: {said}", "mend that first"))
        except OSError as error:
            what = f"{error.filename or 'the system'}: {error.strerror or type(error).__name__}"
            found.append(Finding(name, FAIL, f"could not be looked at: {what}", "mend that first"))
        except (ValueError, LookupError, TypeError) as error:
            found.append(Finding(name, FAIL, f"could not be looked at: {type(error).__name__}", "mend that first"))
    return found


def _fails(found: list[Finding]) -> bool:
    return any(one.verdict == FAIL for one in found)


def _tell(found: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for one in found:
        console.print(f"[{_STYLES[one.verdict]}]{one.verdict:4}[/]  {one.check:20}  ", end="")
        console.print(one.says, markup=False)
        if one.do and one.verdict != OK:
            console.print(f"      → {one.do}", markup=False)
    counts = ", ".join(f"{sum(one.verdict == word for one in found)} {word}" for word in (OK, WARN, FAIL))
    console.print(f"\n{counts}", markup=False)


_PAGES: Final = {
    "shipper": "#affidavitshippingfailing",
    "daily": "#affidavitdailywork",
    "bundle": "#affidavitbundlerefused",
}
"""Parts that keep nobody from calling, and where it stands what to do."""


# The gate itself ---------------------------------------------------------------------------------------------------


def _gate(patient: Patient) -> Iterator[Finding]:
    """Does it run, with this file, and is it ready?"""
    supervisor = patient.states.get("supervisor")
    if supervisor is None or not is_supervised(patient.config.run_dir):
        yield Finding("gate.runs", FAIL, f"nothing runs in {patient.config.run_dir}", "start affidavit serve")
        return
    yield Finding("gate.runs", OK, f"process {supervisor.get('pid')}")
    if supervisor.get("config_sha256") == patient.digest:
        yield Finding("gate.configuration", OK, f"the file in force is this one ({patient.digest[:16]}…)")
    else:
        do = "affidavit reload (only connections changed), or a restart"
        yield Finding("gate.configuration", WARN, "the file was changed and is not in force", do)
    standing = Standing.of(patient.config, patient.states, patient.now.timestamp())
    if standing.problems:
        told = "; ".join(f"{name}: {why}" for name, why in standing.problems.items())
        yield Finding("gate.ready", FAIL, told, "docs/runbook.md#affidavitnotready")
    else:
        yield Finding("gate.ready", OK, "every worker answers")
    unwell = [part for part in _PAGES if not standing.parts[part]]
    for part in unwell:
        yield Finding(f"gate.{part}", FAIL, f"not well: {_why(patient, part)}", f"docs/runbook.md{_PAGES[part]}")


def _why(patient: Patient, part: str) -> str:
    if part == "bundle":
        return str(patient.states.get("shipper", {}).get("policy_refused"))
    return "; ".join(map(str, patient.states.get(part, {}).get("failures", ()))) or "it says nothing"


def _policy(patient: Patient) -> Iterator[Finding]:
    """One bundle decides everywhere, and it is that of the file."""
    told = {name: state.get("policy") for name, state in patient.states.items() if name.startswith("worker-")}
    digests = {one["digest"] for one in told.values() if one}
    if not digests or not all(told.values()):
        says = "no word of every worker which bundle decides"
        yield Finding("policy.active", FAIL, says, "see gate.ready; if all is well there: is OPA running?")
        return
    if len(digests) > 1:
        yield Finding("policy.active", FAIL, f"workers see {len(digests)} bundles", "one OPA for all workers")
        return
    [digest] = digests
    yield _deciding(Standing.of(patient.config, patient.states, patient.now.timestamp()), digest)
    yield store.policy_is_kept(patient.config, digest)


def _deciding(standing: Standing, digest: str) -> Finding:
    """What workers said of OPA stays when it, or they, are gone: only what they say now counts."""
    if not standing.parts["workers"]:
        return Finding("policy.active", FAIL, f"nobody asks OPA now; last decided: {digest[:16]}…", "see gate.ready")
    if not standing.parts["policy"]:
        says = f"OPA does not answer; last decided: {digest[:16]}…"
        return Finding("policy.active", FAIL, says, "docs/runbook.md#affidavitpolicyunreachable")
    return Finding("policy.active", OK, f"OPA decides with {digest[:16]}…")


def _envoy(patient: Patient) -> Iterator[Finding]:
    admin = patient.config.listen.admin
    try:
        dump = told_by_envoy(admin, "/config_dump")
    except Unreachable as error:
        yield Finding("envoy.runs", FAIL, f"{admin}: {error}", "start Envoy with run_dir/envoy/bootstrap.yaml")
        return
    yield Finding("envoy.runs", OK, f"answers on {admin}")
    yield from envoy.judge(dump, str(access_log_path(patient.config)))
    yield from _edge(patient, dump)
    if (path := socket_of(admin)) is not None:
        if path.stat().st_mode & stat.S_IRWXO:
            says = f"{path} is for everybody: whoever reaches it can stop Envoy"
            yield Finding("envoy.admin", FAIL, says, "mode 0660, and a group of Envoy and the gate only")
        return
    host = admin.rpartition(":")[0]
    if host not in {"127.0.0.1", "localhost", "[::1]"}:
        yield Finding(
            "envoy.admin", FAIL, f"the admin address is {host}: whoever reaches it can stop Envoy", "loopback"
        )


def _edge(patient: Patient, dump: Mapping[str, Any]) -> Iterator[Finding]:
    """All of Envoy's settings, where the file that they are made of is the one in force."""
    config = patient.config
    if patient.states.get("supervisor", {}).get("config_sha256") == patient.digest:
        yield from edge.compare(dump, edge_files.settings(config), edge_files.connections(config))
        return
    for name in (edge.SETTINGS, edge.CONNECTIONS):
        yield Finding(
            name, WARN, "not looked at: this file is not in force", "affidavit reload, or a restart; then ask again"
        )


def _access_log(patient: Patient) -> Iterator[Finding]:
    path = access_log_path(patient.config)
    try:
        told = path.lstat()
        if not stat.S_ISREG(told.st_mode):
            raise OSError(errno.EINVAL, "is no plain file: whoever put it there is in Envoy, or is its user")
    except OSError as error:
        yield Finding(
            "envoy.witness", FAIL, f"{path}: {error.strerror}", "Envoy must be able to write it: its folder, its group"
        )
        return
    yield Finding("envoy.witness", OK, f"{path}: {told.st_size} bytes")


CHECKS: Final[Mapping[str, Check]] = {
    "gate": _gate,
    "policy": _policy,
    "envoy": _envoy,
    "envoy.witness": _access_log,
    "store": lambda patient: store.look(patient.config, patient.states, patient.clock),
    "disk": lambda patient: disk.look(patient.config),
    "keys": lambda patient: keys.look(patient.config, patient.policy_file, patient.clock),
}
"""By the name that is told where one cannot be made."""
