"""Debian's packages: fetched by apt, checked against ``debian.lock``, unpacked without installing anything.

No script of a package runs. What those would have made and is needed (the bundle of authorities) is made here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from images.archive import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOCK = Path(__file__).parent / "debian.lock"
RELEASE = "12"
_HEAD = "# Debian 12 (amd64). Made by `make images-lock`: name, version, SHA-256 of the .deb.\n"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders at the top that are links into ``usr`` since Debian 12; packages still ship files in them."""
_LEFT_OUT = re.compile(
    r"DEBIAN/|usr/share/(ca-certificates|man|info|locale|lintian|bug|doc-base|pixmaps|applications|python3/runtime\.d|binfmts)(/|$)"
    r"|usr/share/doc/[^/]+/(?!copyright$)"
    r"|(etc/(cron\.|init|dpkg|update-motd|ca-certificates|python3)|var/)"
    r"|usr/(bin|sbin)/(?!python3\.11$)"
    r"|usr/lib/python3\.11/(test|ensurepip|idlelib|lib2to3|tkinter|turtledemo|pydoc_data|unittest/test)/"
    r"|usr/lib/python3\.11/lib-dynload/(_crypt|_curses|_curses_panel|_dbm|_gdbm|nis|readline|_tkinter)\."
    r"|usr/lib/x86_64-linux-gnu/(gconv/|audit/)"
)
"""Pages for people, tools that nothing calls, and parts of Python whose libraries are not taken. Licences stay."""


class ImageError(Exception):
    """An image cannot be made; the message says what to do."""


class Package(NamedTuple):
    """A package of the lock."""

    name: str
    version: str
    sha256: str


def locked(names: Iterable[str]) -> list[Package]:
    """What the lock says of ``names``, in order of name.

    Raises:
        ImageError: the lock has not all of them.
    """
    lines = (line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    known = {name: Package(name, version, sha256) for name, version, sha256 in lines}
    if missing := sorted(set(names) - set(known)):
        raise ImageError(f"{LOCK.name} does not have {', '.join(missing)}: run `make images-lock`")
    return [known[name] for name in sorted(names)]


def lock(names: Iterable[str]) -> None:
    """Write the lock anew, with the versions that apt would install now."""
    lines = []
    for name in sorted(names):
        shown = _said("apt-cache", "show", "--no-all-versions", name)
        fields = dict(re.findall(r"^(Version|SHA256): (\S+)$", shown, re.MULTILINE))
        lines.append(f"{name} {fields['Version']} {fields['SHA256']}\n")
    LOCK.write_text(_HEAD + "".join(lines))


def fetch(packages: Sequence[Package], cache: Path) -> dict[Package, Path]:
    """Each package unpacked in a folder of its own under ``cache``.

    Raises:
        ImageError: apt does not have that version, or what it brings is not what is locked.
    """
    found = {package: cache / package.sha256 for package in packages}
    for package, folder in found.items():
        if not folder.is_dir():
            _fetch(package, folder)
    return found


def _fetch(package: Package, folder: Path) -> None:
    downloads = folder.with_suffix(".downloads")
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    try:
        _said("apt-get", "download", "--quiet", f"{package.name}={package.version}", folder=downloads)
    except ImageError as error:
        raise ImageError(
            f"{package.name} {package.version} is not to be had ({error}).\nThis needs Debian {RELEASE} with fresh "
            "lists (`apt-get update`). Where its archive has gone on: `make images-lock`, and look at what changed"
        ) from None
    [archive] = downloads.glob("*.deb")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
        raise ImageError(f"{archive.name} is not the one that is locked: do not use it")
    unpacked = downloads / "unpacked"
    _said("dpkg-deb", "--raw-extract", archive.name, unpacked.name, folder=downloads)
    unpacked.rename(folder)
    shutil.rmtree(downloads)


def put_packages(tree: Tree, packages: Sequence[Package], cache: Path) -> None:
    """Put the files of packages into a tree, and what a scanner wants to know of each."""
    for package, folder in fetch(packages, cache).items():
        tree.put_folder(folder, "", wanted=lambda path: _LEFT_OUT.match(path) is None)
        status = (folder / "DEBIAN" / "control").read_bytes().rstrip() + b"\nStatus: install ok unpacked\n"
        tree.put(f"var/lib/dpkg/status.d/{package.name}", File(status))
    for path in [one for one in tree.entries if one.partition("/")[0] in _MERGED]:
        tree.put(f"usr/{path}", tree.entries.pop(path))


def authorities(packages: Sequence[Package], cache: Path) -> bytes:
    """The bundle of public authorities, as `update-ca-certificates` would make it."""
    [package] = [one for one in packages if one.name == "ca-certificates"]
    folder = fetch([package], cache)[package] / "usr" / "share" / "ca-certificates"
    return b"".join(path.read_bytes().rstrip() + b"\n" for path in sorted(folder.rglob("*.crt")))


def _said(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ImageError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
