"""The policy bundle: built reproducibly by OPA, named by its content, and read to learn its name.

OPA is given the file itself (``opa run --bundle FILE``): the revision is then in each answer's provenance,
and the digest is the file's. With a ``file://`` resource and ``persist`` OPA 1.22.2 answers the same, but
fails to persist ("no raw bundle bytes"), so there would be no second copy to hash. Bundles fetched over HTTP
do persist, byte for byte.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import shutil
import stat
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
from ext_proc.policy.again import looks_at_opa, write_capabilities
from ext_proc.policy.concerns import unasked

if TYPE_CHECKING:
    from collections.abc import Iterator

BUNDLE_MAX_BYTES: Final = 32 << 20
"""Larger ones are not read: nobody's rules are that long, and a bundle may come from somebody who may not write it."""
NUMBER: Final = "affidavit_number"
"""In the manifest's metadata: a later bundle has a larger one."""
_UNPACKED_MAX_BYTES: Final = 128 << 20
_MANIFEST: Final = ".manifest"
_SIGNATURES: Final = ".signatures.json"
_DATA_FILES: Final = frozenset({"data.json", "data.yaml", "data.yml"})
_DATA: Final = _DATA_FILES | {_MANIFEST}
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
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
        ConfigError: OPA refuses the sources (the detail is what it said), they call what answers differently each time,
            or a concern says nothing where it should say no.
    """
    if not sources.is_dir():
        raise ConfigError(f"{sources}: no such folder")
    if signing is not None and not _KEY_ID.fullmatch(signing.key_id):
        raise ConfigError(f"key id {signing.key_id!r}: letters, digits, . _ and -, 64 at most")
    revision = f"sha256:{_sources_sha256(sources, number)}"
    with tempfile.TemporaryDirectory(prefix="affidavit-build-") as name:
        own = Path(name)
        able = write_capabilities(opa, own)
        inside = _with_number(sources, own / "sources", number) if number is not None else sources
        # Paths go into the bundle as they are given, so it is built from inside the folder.
        command = [
            *(str(opa.absolute()), "build", "--bundle", ".", "--capabilities", str(able)),
            *("--ignore", "*" + _TEST_SUFFIX, "--ignore", _LEFT_OUT),
            *("--revision", revision, "--output", str(own / "bundle.tar.gz")),
        ]
        if signing is not None:
            (own / "claims.json").write_text(json.dumps({"keyid": signing.key_id, "scope": SCOPE}))
            command += ["--signing-key", str(signing.key_file.absolute()), "--signing-alg", signing.algorithm]
            command += ["--claims-file", str(own / "claims.json")]
        _build(command, inside)
        if own_data := looks_at_opa(opa.absolute(), inside):
            raise ConfigError(f"opa build: the rules look at {', '.join(own_data)}, which is not theirs to know")
        if silent := unasked(opa, inside):
            raise ConfigError(f"{silent[0].file}: {silent[0].text}; write: {silent[0].remedy}")
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


def read_file(path: Path) -> bytes:
    """What is in a file that others may have put there: one byte more than a bundle may have tells that it is none.

    A pipe in its place would keep whoever opens it waiting for ever.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        return file.read(BUNDLE_MAX_BYTES + 1)


def read_version(bundle: Path) -> PolicyVersion:
    """Revision (from its manifest) and digest of a bundle file.

    Raises:
        ConfigError: it cannot be read, or has no revision.
    """
    try:
        raw = read_file(bundle)
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


class OddArchive(ConfigError):
    """An archive that no `opa build` makes: others might read something else in it than we do."""

    code = "odd_archive"


def read_facts(raw: bytes) -> BundleFacts:
    """What the bytes of a bundle say of it.

    Raises:
        OddArchive: see there.
        ConfigError: they are none, or it has no revision.
    """
    try:
        found = members_of(raw)
        manifest = json.loads(found[".manifest"])
        revision, metadata = manifest.get("revision"), manifest.get("metadata")
        key_id = _key_id(found[".signatures.json"]) if ".signatures.json" in found else None
    except (LookupError, ValueError, AttributeError, TypeError, RecursionError):
        raise ConfigError("not a policy bundle") from None
    if not isinstance(revision, str) or not revision:
        raise ConfigError("the bundle has no revision; build it with --revision")
    number = metadata.get(NUMBER) if isinstance(metadata, dict) else None
    return BundleFacts(revision, number if type(number) is int and 0 <= number < 2**53 else None, key_id)


def unpack(raw: bytes, folder: Path) -> None:
    """Write the sources in a bundle into an empty folder: rules, data and manifest.

    Raises:
        ConfigError: see `read_facts`.
    """
    for name, content in members_of(raw).items():
        if name != _SIGNATURES:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def members_of(raw: bytes) -> dict[str, bytes]:
    """Every file, read so strictly that nobody can read it in another way.

    OPA checks what *it* reads against the signature. A second manifest that only we see gives an older bundle a newer
    number (a file of the kind "contiguous", which Go passes over, did); so what is no plain file of a plain name, or is
    there twice, is refused. So is what a bundle of rules and data does not have: a delta (``patch.json``), WASM.

    Raises:
        OddArchive: see above.
        ConfigError: it is no archive.
    """
    found: dict[str, bytes] = {}
    try:
        tar = _unzipped(raw)
        with tarfile.open(fileobj=BytesIO(tar), mode="r:") as archive:
            for member in archive:
                if not _is_plain(member):
                    raise OddArchive("an archive that no `opa build` makes")
                if member.isdir():
                    continue
                name = member.name.removeprefix("/")
                content = archive.extractfile(member)
                if name in found or not _is_expected(name) or content is None:
                    raise OddArchive("an archive that no `opa build` makes")
                found[name] = content.read()
            if tar[archive.offset :].strip(b"\0"):
                raise OddArchive("an archive that no `opa build` makes")
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError):
        raise ConfigError("not a policy bundle") from None
    return found


def _unzipped(raw: bytes) -> bytes:
    """One stream of gzip, and nothing behind it. (OPA would unpack any number of gigabytes.)"""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    tar = stream.decompress(raw, _UNPACKED_MAX_BYTES)
    if not stream.eof or stream.unused_data:
        raise ValueError("too large, cut off, or more than one stream")
    return tar


def _is_plain(member: tarfile.TarInfo) -> bool:
    """A file or folder with one header, or with one before it that has its long name."""
    has_one_header = member.offset_data - member.offset == tarfile.BLOCKSIZE
    return member.type in _PLAIN and (has_one_header or set(member.pax_headers) == {"path"})


def _is_expected(name: str) -> bool:
    parts = name.split("/")
    last = parts[-1]
    if "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        return False
    return (
        name in (_MANIFEST, _SIGNATURES) or last in _DATA_FILES or (last.endswith(".rego") and len(last) > len(".rego"))
    )


def _is_source(path: Path) -> bool:
    return path.suffix == ".rego" or path.name in _DATA


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
