"""The policy bundle: built reproducibly by OPA, named by its content, and read to learn its name."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError
from ext_proc.model import PolicyVersion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SOURCES: Final = ("inference", "system", "data.json")


def build(opa: Path, sources: Path, target: Path) -> PolicyVersion:
    """Build ``sources`` (a folder like ``opa/``) into ``target``. Equal sources give equal bytes and revision.

    Raises:
        ConfigError: OPA refuses the sources; the detail is what it said.
    """
    files = sorted(
        path
        for name in _SOURCES
        for path in ((sources / name).rglob("*") if (sources / name).is_dir() else [sources / name])
        if path.suffix in (".rego", ".json") and not path.name.endswith("_test.rego")
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(sources)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    # Paths go into the bundle as they are given, so it is built from inside the folder.
    command: Sequence[str | Path] = (
        opa, "build", "--bundle", ".", "--ignore", "*_test.rego", "--ignore", "schemas",
        "--revision", f"sha256:{digest.hexdigest()}", "--output", target.absolute(),
    )  # fmt: skip
    done = subprocess.run([str(part) for part in command], cwd=sources, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"opa build: {(done.stdout + done.stderr).strip()}")
    return read_version(target)


def read_version(bundle: Path) -> PolicyVersion:
    """Revision (from its manifest) and digest of a bundle file.

    Raises:
        ConfigError: it cannot be read, or has no revision.
    """
    try:
        raw = bundle.read_bytes()
        with tarfile.open(bundle) as archive:
            manifest = next(member for member in archive.getmembers() if member.name.lstrip("/") == ".manifest")
            content = archive.extractfile(manifest)
            revision = json.loads(content.read() if content else b"{}").get("revision")
    except (OSError, tarfile.TarError, gzip.BadGzipFile, StopIteration, ValueError):
        raise ConfigError(f"{bundle}: not a policy bundle") from None
    if not isinstance(revision, str) or not revision:
        raise ConfigError(f"{bundle}: the bundle has no revision; build it with --revision")
    return PolicyVersion(revision, hashlib.sha256(raw).hexdigest())
