"""Is every concern asked? The library's `inference.decision` collects ``allow`` from the packages below
``inference.concerns``. One that has no value there does not say no: it says nothing, and the call passes.

So ``allow`` must have a value whatever happens (``default allow := false``), and rules that look like a concern's must
stand in a package that is collected. A policy that does not use the collector has packages as it likes.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS: Final = 60.0
_COLLECTED: Final = "data.inference.concerns."
_OTHERS: Final = ("data.inference", "data.system.authz")
"""The collector itself, and OPA's own question."""
_DEFAULT: Final = re.compile(r"default\s+allow\s*:?=")  # whether it is true is another question (`trial.static`)
_CONCERNS_RULE: Final = re.compile(r"(default\s+)?allow\b|(allow|reasons|demands)\s+contains\b")


def unasked(opa: Path, folder: Path) -> list[Problem]:
    """Packages whose word nobody hears, all of them. A folder without concerns has none.

    Raises:
        ConfigError: OPA does not say which packages there are.
    """
    packages = _packages(opa, folder)
    if not any(name.startswith(_COLLECTED) for name in packages):
        return []
    lines = {file: _lines(folder / file) for files in packages.values() for file in files}
    return [one for name, files in sorted(packages.items()) for one in _of_package(name, files, lines)]


def _of_package(name: str, files: list[str], lines: dict[str, list[str]]) -> Iterator[Problem]:
    own = [(file, row, line) for file in files for row, line in enumerate(lines[file], 1)]
    shown = name.removeprefix("data.")
    if name.startswith(_COLLECTED) and "." not in name.removeprefix(_COLLECTED):
        if not any(_DEFAULT.match(line) for _, _, line in own):
            text = f"{shown}: `allow` has no value where no rule gives it one; the concern then says nothing, not no"
            yield Problem("no_default", files[0], 0, text, "default allow := false")
        return
    if name in _OTHERS or any(name in line for file in lines if file not in files for line in lines[file]):
        return  # who is imported is asked by whoever imports it
    for file, row, line in own:
        if _CONCERNS_RULE.match(line):
            text = f"package {shown} is asked by nobody"
            yield Problem("not_asked", file, row, text, "a concern's package is called inference.concerns.NAME")
            return


def _packages(opa: Path, folder: Path) -> dict[str, list[str]]:
    """Files by package; those of tests and of data are left out."""
    command = [str(opa.absolute()), "inspect", "--format", "json", "."]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"opa inspect: {type(error).__name__}") from None
    try:
        told = json.loads(done.stdout)["namespaces"]
        found = {str(name): [str(file) for file in files if _counts(str(file))] for name, files in told.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(f"opa inspect: {(done.stderr or done.stdout).strip()[:500]}") from None
    return {name: files for name, files in found.items() if files}


def _counts(file: str) -> bool:
    return file.endswith(".rego") and not file.endswith("_test.rego")


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()
