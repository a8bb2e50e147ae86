"""What can be said of a policy's sources without asking them anything: layout, types, names, what they may call."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ext_proc.policy.again import capabilities
from ext_proc.policy.trial.opa_program import run
from ext_proc.policy.trial.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNDEFINED: Final = re.compile(r"undefined function (\S+)")
_OPEN_BY_DEFAULT: Final = re.compile(r"\s*default\s+allow\s*:?=\s*true\b")
_SCHEMA_NAMED: Final = re.compile(r"^#\s*-\s*input:\s*schema\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the sources. ``row`` is 0 where it is the whole file; ``remedy`` says what to do."""

    code: str
    file: str
    row: int
    text: str
    remedy: str = ""


def problems_of(opa: Path, folder: Path) -> list[Problem]:
    """All of them, in the order in which they are best mended."""
    found = [*_compiled(opa, folder)]
    if found:
        return found  # what does not compile is not laid out either
    return [*_laid_out(opa, folder), *_reproducible(opa, folder), *_open_by_default(folder)]


def _compiled(opa: Path, folder: Path) -> Iterator[Problem]:
    own = folder / "schemas" / "question.json"
    schemas = own.parent.absolute() if own.is_file() else SCHEMAS
    yield from _checked(opa, folder, "strict", "--strict", "--schema", str(schemas), "--ignore", "schemas")
    if not any(_SCHEMA_NAMED.search(path.read_text(errors="replace")) for path in folder.rglob("*.rego")):
        # Nobody says what `input` is: it is the question, but for OPA's own authorization.
        one_file = ("--schema", str(schemas / "question.json"), "--ignore", "*_test.rego", "--ignore", "system")
        yield from _checked(opa, folder, "schema", *one_file)


def _reproducible(opa: Path, folder: Path) -> Iterator[Problem]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(capabilities(opa), file)
        file.flush()
        yield from _checked(opa, folder, "capabilities", "--capabilities", file.name, "--ignore", "*_test.rego")


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
