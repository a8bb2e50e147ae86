"""What can be said of a policy's sources without asking them anything: layout, types, names, what they may call."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ext_proc.policy.again import looks_at_opa, write_capabilities
from ext_proc.policy.concerns import unasked
from ext_proc.policy.problem import Problem
from ext_proc.policy.trial.opa_program import run
from ext_proc.policy.trial.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.policy.trial.opa_program import Server

_UNDEFINED: Final = re.compile(r"undefined function (\S+)")
_OPEN_BY_DEFAULT: Final = re.compile(r"\s*default\s+allow\s*:?=\s*true\b")


def problems_of(opa: Path, folder: Path) -> list[Problem]:
    """All of them, in the order in which they are best mended."""
    found = [*_compiled(opa, folder)]
    if found:
        return found  # what does not compile is not laid out either
    return [
        *_laid_out(opa, folder),
        *_reproducible(opa, folder),
        *_open_by_default(folder),
        *unasked(opa, folder),
    ]


def _compiled(opa: Path, folder: Path) -> Iterator[Problem]:
    """Twice: as the policy's own annotations have it, and whatever these say, for `input` is the gate's question."""
    with tempfile.TemporaryDirectory(prefix="affidavit-check-") as name:
        schemas, plain = Path(name, "schemas"), Path(name, "plain")
        schemas.mkdir()
        for source in (folder / "schemas", SCHEMAS):  # the question is as the gate puts it, not as they have it
            for path in source.glob("*.json") if source.is_dir() else ():
                shutil.copyfile(path, schemas / path.name)
        found = list(_checked(opa, folder, "strict", "--strict", "--schema", str(schemas), "--ignore", "schemas"))
        yield from found
        told = {(one.file, one.row, one.text) for one in found}
        _write_without_comments(folder, plain)
        for one in _checked(opa, plain, "schema", "--schema", str(schemas / "question.json")):
            if (one.file, one.row, one.text) not in told:
                yield one


def _write_without_comments(folder: Path, target: Path) -> None:
    """The rules with nothing said of them, line by line in the same place: annotations are comments, and so is what
    only looks like one. Without tests, and without OPA's own authorization, which is asked something else.
    """
    target.mkdir()
    for path in folder.rglob("*.rego"):
        place = path.relative_to(folder)
        if not path.name.endswith("_test.rego") and place.parts[0] not in ("schemas", "system"):
            lines = path.read_text(errors="replace").splitlines()
            written = target / place
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text("\n".join("#" if line.lstrip().startswith("#") else line for line in lines) + "\n")


def _reproducible(opa: Path, folder: Path) -> Iterator[Problem]:
    with tempfile.TemporaryDirectory(prefix="affidavit-check-") as name:
        able = str(write_capabilities(opa, Path(name)))
        found = list(_checked(opa, folder, "capabilities", "--capabilities", able, "--ignore", "*_test.rego"))
    yield from found
    for name in () if found else looks_at_opa(opa, folder):
        text = f"looks at {name}, which is not the same at the gate as here"
        yield Problem("capabilities", "", 0, text, "what a policy needs to know is in `input`, or in its own data")


def _open_by_default(folder: Path) -> Iterator[Problem]:
    """`default allow := true`: what the rules do not speak of is allowed, though no question may show it today."""
    for path in sorted(folder.rglob("*.rego")):
        if path.name.endswith("_test.rego"):
            continue
        for row, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if _OPEN_BY_DEFAULT.match(line):
                text = "allows by default: whatever no rule speaks of is allowed"
                remedy = "default allow := false, and say in `allow if` what is known to be right"
                yield Problem("default_allow", str(path.relative_to(folder)), row, text, remedy)


_DOORS: Final = (
    ("PUT", "v1/policies/mine"),
    ("DELETE", "v1/policies/mine"),
    ("GET", "v1/policies"),
    ("PUT", "v1/data/inference"),
    ("PATCH", "v1/data/inference"),
    ("GET", "v1/data"),
    ("POST", "v1/data/system/bundles"),
    ("POST", "v1/query"),
    ("POST", "v1/compile"),
    ("POST", "v1/batch/data/inference"),
    ("GET", "v1/config"),
)
"""What the gate never asks of OPA: whoever could would need no policy."""


def open_doors(server: Server) -> Iterator[Problem]:
    """Does the policy (`system.authz`) let others do at OPA what only its operator may?"""
    for method, path in _DOORS:
        if server.lets(method, path):
            text = f"system.authz lets anybody who reaches OPA {method} /{path}"
            yield Problem("authz", "", 0, text, "allow POST of the decision and GET of /health, and nothing else")


def _laid_out(opa: Path, folder: Path) -> Iterator[Problem]:
    said = run(opa, ["fmt", "--list", "."], folder).stdout
    for name in said.splitlines():
        yield Problem("layout", _shown(name), 0, "not laid out as `opa fmt` does", "opa fmt --write FOLDER")


def _checked(opa: Path, folder: Path, code: str, *options: str) -> Iterator[Problem]:
    done = run(opa, ["check", "--format", "json", *options, "."], folder)
    if done.returncode == 0:
        return
    try:
        errors = json.loads(done.stderr or done.stdout)["errors"]
    except (ValueError, KeyError, TypeError):
        yield Problem(code, "", 0, (done.stderr or done.stdout).strip())
        return
    for error in errors:
        place = error.get("location") or {}
        yield Problem(
            code, _shown(place.get("file", "")), place.get("row", 0), error.get("message", "?"), _remedy(code, error)
        )


def _remedy(code: str, error: dict[str, Any]) -> str:
    undefined = _UNDEFINED.search(error.get("message", ""))
    if code != "capabilities" or undefined is None:
        return ""
    if undefined[1].startswith("time."):
        return "the question has the time: input.time; the same question then gives the same decision"
    return "it answers differently each time, or asks the network: such a decision cannot be made again"


def _shown(name: str) -> str:
    return str(Path(name)) if name else ""
