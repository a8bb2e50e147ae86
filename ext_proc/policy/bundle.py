"""The policy bundle: built reproducibly by OPA, named by its content, and read to learn its name.

OPA is given the file itself (``opa run --bundle FILE``): the revision is then in each answer's provenance,
and the digest is the file's. With a ``file://`` resource and ``persist`` OPA 1.22.2 answers the same, but
fails to persist ("no raw bundle bytes"), so there would be no second copy to hash. Bundles fetched over HTTP
do persist, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import zlib
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError
from ext_proc.model import PolicyVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SOURCES: Final = ("inference", "system", "data.json")
_TEST_SUFFIX: Final = "_test.rego"
BUILD_SECONDS: Final = 60.0


def build(opa: Path, sources: Path, target: Path) -> PolicyVersion:
    """Build ``sources`` (a folder like ``opa/``) into ``target``. Equal sources: equal bytes and revision.

    Raises:
        ConfigError: OPA refuses the sources; the detail is what it said.
    """
    revision = f"sha256:{_sources_sha256(sources)}"
    # Paths go into the bundle as they are given, so it is built from inside the folder.
    command = [
        *(str(opa.absolute()), "build", "--bundle", "."),
        *("--ignore", "*" + _TEST_SUFFIX, "--ignore", "schemas"),
        *("--revision", revision, "--output", str(target.absolute())),
    ]
    try:
        done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"opa build: {type(error).__name__}") from None
    if done.returncode != 0:
        raise ConfigError(f"opa build: {done.stderr.strip()}")
    return read_version(target)


def read_version(bundle: Path) -> PolicyVersion:
    """Revision (from its manifest) and digest of a bundle file.

    Raises:
        ConfigError: it cannot be read, or has no revision.
    """
    try:
        raw = bundle.read_bytes()
    except OSError as error:
        raise ConfigError(f"{bundle}: {error.strerror}") from None
    try:
        with tarfile.open(bundle) as archive:
            manifest = next(member for member in archive if member.name.lstrip("/") == ".manifest")
            content = archive.extractfile(manifest)
            revision = json.loads(content.read() if content else b"{}").get("revision")
    except (OSError, EOFError, zlib.error, tarfile.TarError, StopIteration, ValueError, AttributeError):
        raise ConfigError(f"{bundle}: not a policy bundle") from None
    if not isinstance(revision, str) or not revision:
        raise ConfigError(f"{bundle}: the bundle has no revision; build it with --revision")
    return PolicyVersion(revision, hashlib.sha256(raw).hexdigest())


def _sources_sha256(sources: Path) -> str:
    """One digest of names and contents, in a fixed order."""
    digest = hashlib.sha256()
    for path in sorted(_files(sources)):
        digest.update(f"{path.relative_to(sources)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(sources: Path) -> Iterator[Path]:
    """What ``opa build`` takes from the folder."""
    for path in (sources / name for name in _SOURCES):
        for one in path.rglob("*") if path.is_dir() else (path,):
            if one.suffix in (".rego", ".json") and not one.name.endswith(_TEST_SUFFIX):
                yield one
