"""The locked wheels and our own code, compiled by the image's own Python.

Compiled, because a pod's root cannot be written: each process would compile everything anew. By the image's Python,
which runs here from its unpacked files, so that it does not matter which one runs the recipe.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from images.debian import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).parent / "requirements.lock"
SITE = "usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python looks for what was not installed by Debian."""
CODE = "opt/affidavit"
"""Not in `SITE`: our folder ``envoy`` (templates) beside Envoy's package of that name would be one folder of two."""
_GLIBC_OF_DEBIAN = 36
_CODE_FOLDERS = ("ext_proc", "envoy", "opa", "LICENSE")
_LEFT_OUT = re.compile(
    r"bin/|.*/__pycache__/|(phonenumbers/(geodata|carrierdata|tzdata)/)"
    r"|(grpc_health|sqlalchemy|aiohttp|uvloop|psycopg|zstandard|pydantic)/.*\.(pyx|pxd|pxi|c|h)$"
    r"|botocore/data/(?!(s3|kms|sts|sso|sso-oidc|signin)/|[a-z_-]+\.json$)"
    r"|.*/tests?/.*\.py$"
)
"""What no process of ours loads: places of telephone numbers, sources of what is compiled, other services of AWS."""


class Wheel(NamedTuple):
    """An installed wheel: what it says of itself."""

    name: str
    version: str
    licence: str


def install(cache: Path) -> Path:
    """The wheels of the lock in one folder, for Debian's Python and glibc whatever this machine has.

    Raises:
        ImageError: pip cannot.
    """
    folder = cache / hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if folder.is_dir():
        return folder
    beside = folder.with_suffix(".new")
    shutil.rmtree(beside, ignore_errors=True)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_OF_DEBIAN, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
        "--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11",
        "--abi", "cp311", "--abi", "abi3", "--abi", "none", *(f"--platform={one}" for one in platforms),
        "--target", str(beside), "--requirement", str(LOCK),
    ]  # fmt: skip
    _run(command)
    beside.rename(folder)
    return folder


def wanted(path: str) -> bool:
    """Does this file of a wheel belong into the image?"""
    return _LEFT_OUT.match(path) is None


def code() -> dict[str, Path]:
    """Our own files by where they go: what git knows of, as it lies here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *_CODE_FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        raise ImageError("images are made from a git checkout, and git does not list its files")
    return {f"{CODE}/{path}": ROOT / path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()}


def wheels(folder: Path) -> list[Wheel]:
    """What is installed in a folder."""
    found = []
    for metadata in sorted(folder.glob("*.dist-info/METADATA")):
        said = HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
        found.append(Wheel(said["Name"], said["Version"], said["License-Expression"] or ""))
    return found


def compile_all(root: Path, folders: Iterable[str]) -> None:
    """Compile everything in some folders of ``root``, with the Python that lies there.

    Each file is named as it will be named in the image and never looked at again (a hash instead of a time, unchecked),
    and the order within a set of constants is fixed: the same sources give the same bytes.
    """
    how = ("-q", "-f", "-s", str(root), "-p", "/", "--invalidation-mode", "unchecked-hash")
    for folder in folders:
        command = [*python_in(root), "-m", "compileall", *how, str(root / folder)]
        _run(command, environment={"PYTHONHASHSEED": "0"})


def python_in(root: Path) -> list[str]:
    """The command that runs an image's Python from its unpacked files."""
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(root / "usr/bin/python3.11")]


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ImageError(f"this failed: {' '.join(command[:8])} …\n{said}")
