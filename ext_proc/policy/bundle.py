"""The policy bundle: built reproducibly by OPA, named by its content, and read to learn its name.

OPA is given the file itself (``opa run --bundle FILE``): the revision is then in each answer's provenance,
and the digest is the file's. With a ``file://`` resource and ``persist`` OPA 1.22.2 answers the same, but
fails to persist ("no raw bundle bytes"), so there would be no second copy to hash. Bundles fetched over HTTP
do persist, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError
from ext_proc.model import PolicyVersion
from ext_proc.policy.again import capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

BUNDLE_MAX_BYTES: Final = 32 << 20
"""Larger ones are not read: nobody's rules are that long, and a bundle may come from somebody who may not write it."""
NUMBER: Final = "affidavit_number"
"""In the manifest's metadata: a later bundle has a larger one."""
_FILE_MAX_BYTES: Final = 64 << 20
_UNPACKED_MAX_BYTES: Final = 512 << 20
_DATA: Final = frozenset({"data.json", "data.yaml", "data.yml", ".manifest"})
_LEFT_OUT: Final = "schemas"
_TEST_SUFFIX: Final = "_test.rego"
BUILD_SECONDS: Final = 60.0
_SAID_MAX: Final = 4000
SCOPE: Final = "policy"
"""Of the signature: one that was made for something else does not count."""
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Signing:
    """With what a bundle is signed.

    Args:
        key_file: private key (PEM).
        key_id: what OPA knows the public one by.
        algorithm: as OPA names it. ECDSA signs differently each time: then equal sources do not give equal bytes.
    """

    key_file: Path
    key_id: str
    algorithm: str = "ES256"


def build(
    opa: Path, sources: Path, target: Path, *, number: int | None = None, signing: Signing | None = None
) -> PolicyVersion:
    """Build ``sources`` (a folder like ``opa/``) into ``target``. Equal sources: equal bytes and revision.

    Args:
        opa: the program.
        sources: the folder.
        target: the file; nothing is left there that could be taken for a bundle if it cannot be built.
        number: its place in the line of those that are published. Part of the revision: what is published again, older
            rules too, is another bundle.
        signing: sign it.

    Raises:
        ConfigError: OPA refuses the sources, or they call what answers differently each time; the detail is what it
            said.
    """
    if not sources.is_dir():
        raise ConfigError(f"{sources}: no such folder")
    if signing is not None and not _KEY_ID.fullmatch(signing.key_id):
        raise ConfigError(f"key id {signing.key_id!r}: letters, digits, . _ and -, 64 at most")
    revision = f"sha256:{_sources_sha256(sources, number)}"
    with tempfile.TemporaryDirectory(prefix="affidavit-build-") as name:
        own = Path(name)
        (own / "capabilities.json").write_text(json.dumps(capabilities(opa)))
        inside = _with_number(sources, own / "sources", number) if number is not None else sources
        # Paths go into the bundle as they are given, so it is built from inside the folder.
        command = [
            *(str(opa.absolute()), "build", "--bundle", ".", "--capabilities", str(own / "capabilities.json")),
            *("--ignore", "*" + _TEST_SUFFIX, "--ignore", _LEFT_OUT),
            *("--revision", revision, "--output", str(own / "bundle.tar.gz")),
        ]
        if signing is not None:
            (own / "claims.json").write_text(json.dumps({"keyid": signing.key_id, "scope": SCOPE}))
            command += ["--signing-key", str(signing.key_file.absolute()), "--signing-alg", signing.algorithm]
            command += ["--claims-file", str(own / "claims.json")]
        _build(command, inside)
        made = read_version(own / "bundle.tar.gz")
        beside = target.with_name(f".{target.name}.new")
        try:
            shutil.copyfile(own / "bundle.tar.gz", beside)
            beside.replace(target)  # whoever polls sees the old one or the new one, never half of it
        except OSError as error:
            raise ConfigError(f"{target}: {error.strerror}") from None
    return made


def _build(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"opa build: {type(error).__name__}") from None
    if done.returncode != 0:
        said = "\n".join(filter(None, (done.stderr.strip(), done.stdout.strip())))
        raise ConfigError(f"opa build: {said[:_SAID_MAX]}")


def _with_number(sources: Path, folder: Path, number: int) -> Path:
    """A copy whose manifest says it."""
    shutil.copytree(sources, folder)
    manifest = folder / ".manifest"
    try:
        told = json.loads(manifest.read_text()) if manifest.exists() else {}
        told["metadata"] = {**told.get("metadata", {}), NUMBER: number}
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{sources}/.manifest: not a manifest") from None
    manifest.write_text(json.dumps(told))
    return folder


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
        revision = read_facts(raw).revision
    except ConfigError as error:
        raise ConfigError(f"{bundle}: {error.detail}") from None
    return PolicyVersion(revision, hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What a bundle says of itself. Nothing here is proved: OPA checks the signature.

    ``number``: which in the line of those that were published (None: it is in none); ``key_id``: of the key that it
    says it is signed with.
    """

    revision: str
    number: int | None = None
    key_id: str | None = None


def read_facts(raw: bytes) -> BundleFacts:
    """What the bytes of a bundle say of it.

    Raises:
        ConfigError: they are none, or it has no revision.
    """
    try:
        found = _members(raw, ".manifest", ".signatures.json")
        manifest = json.loads(found[".manifest"])
        revision, metadata = manifest.get("revision"), manifest.get("metadata")
        key_id = _key_id(found[".signatures.json"]) if ".signatures.json" in found else None
    except (OSError, EOFError, zlib.error, tarfile.TarError, LookupError, ValueError, AttributeError, TypeError):
        raise ConfigError("not a policy bundle") from None
    if not isinstance(revision, str) or not revision:
        raise ConfigError("the bundle has no revision; build it with --revision")
    number = metadata.get(NUMBER) if isinstance(metadata, dict) else None
    return BundleFacts(revision, number if type(number) is int and 0 <= number < 2**53 else None, key_id)


def unpack(raw: bytes, folder: Path) -> None:
    """Write the sources in a bundle into an empty folder: rules, data and manifest, each below it and once.

    Raises:
        ConfigError: it is no bundle, or one that no `opa build` makes.
    """
    try:
        with tarfile.open(fileobj=BytesIO(raw)) as archive:
            for member in archive:
                if archive.offset > _UNPACKED_MAX_BYTES:
                    raise ValueError("far larger than a bundle can be")
                path = folder / member.name.lstrip("/")
                if not _is_source(path):
                    continue
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not path.resolve().is_relative_to(folder.resolve()) or path.exists():
                    raise ValueError("a link, a name twice, or one that leads out of it")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise ConfigError(f"not a policy bundle: {type(error).__name__}") from None


def _is_source(path: Path) -> bool:
    return path.suffix == ".rego" or path.name in _DATA


def _members(raw: bytes, *names: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=BytesIO(raw)) as archive:
        for member in archive:
            if archive.offset > _UNPACKED_MAX_BYTES:
                raise ValueError("far larger than a bundle can be")
            name = member.name.lstrip("/")
            if name in names and member.size <= _FILE_MAX_BYTES and (content := archive.extractfile(member)):
                found[name] = content.read()
    return found


def _key_id(signatures: bytes) -> str | None:
    """As the token's own payload has it."""
    [token] = json.loads(signatures)["signatures"]
    payload = token.split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    key_id = told.get("keyid")
    return key_id if isinstance(key_id, str) and _KEY_ID.fullmatch(key_id) else None


def _sources_sha256(sources: Path, number: int | None) -> str:
    """One digest of names and contents, in a fixed order."""
    digest = hashlib.sha256(b"" if number is None else f"number {number}\0".encode())
    for path in sorted(_files(sources)):
        digest.update(f"{path.relative_to(sources)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(sources: Path) -> Iterator[Path]:
    """What ``opa build`` takes from the folder: whatever is in the bundle is in its revision."""
    for one in sources.rglob("*"):
        is_left_out = one.name.endswith(_TEST_SUFFIX) or _LEFT_OUT in one.relative_to(sources).parts
        if _is_source(one) and not is_left_out and one.is_file():
            yield one
