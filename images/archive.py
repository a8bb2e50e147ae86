"""Trees of files, written down as layers and images: sorted, owned by root, all of one time. The same in, the same out.

An image is an OCI layout in a tar, with Docker's own ``manifest.json`` beside it for engines that read only that.
Layers are not compressed: the digest then depends on no version of a compressor, and registries' clients compress.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """A file: its content, or where that is on this machine."""

    content: bytes | Path
    mode: int = 0o644

    def read(self) -> bytes:
        """The content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(slots=True)
class Tree:
    """Files by their path (without a leading slash). Folders above a file need not be named."""

    entries: dict[str, File | Link | int] = field(default_factory=dict)
    """A number is a folder's mode."""

    def put(self, path: str, entry: File | Link | int) -> None:
        """Put something at a path; what was there gives way."""
        self.entries[path.strip("/")] = entry

    def put_folder(self, source: Path, target: str, *, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Everything under ``source`` whose path below it is wanted. A file that may be run stays one."""
        for path in sorted(source.rglob("*")):
            below = path.relative_to(source).as_posix()
            if not wanted(below):
                continue
            if path.is_symlink():
                self.put(f"{target}/{below}", Link(path.readlink().as_posix()))
            elif path.is_file():
                self.put(f"{target}/{below}", File(path, 0o755 if path.stat().st_mode & 0o100 else 0o644))

    def whole(self) -> dict[str, File | Link | int]:
        """Every entry with every folder above it, in order."""
        folders = {str(up): 0o755 for path in self.entries for up in PurePosixPath(path).parents if str(up) != "."}
        return dict(sorted((folders | self.entries).items()))

    def unpack(self, root: Path) -> None:
        """Write it into a folder, which may hold the layers below."""
        root.mkdir(parents=True, exist_ok=True)
        for path, entry in self.whole().items():
            place = root / path
            if isinstance(entry, int):
                place.mkdir(parents=True, exist_ok=True)
                place.chmod(entry)
            elif isinstance(entry, Link):
                place.unlink(missing_ok=True)
                place.symlink_to(entry.target)
            else:
                place.write_bytes(entry.read())
                place.chmod(entry.mode)


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is: layers, from the bottom up, and how it is run."""

    name: str
    layers: tuple[Tree, ...]
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    user: str
    labels: Mapping[str, str]
    tag: str

    @property
    def reference(self) -> str:
        """What it is called where it was loaded from a file."""
        return f"localhost/{self.name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Written:
    """An image that was written: the digest of its manifest, and the size of its layers."""

    name: str
    reference: str
    digest: str
    layer_bytes: int


def write_image(image: Image, target: Path, epoch: int) -> Written:
    """Write an image as a tar. ``epoch`` is the time of everything in it, in seconds."""
    layers = [_layer_of(tree, target.with_name(f".{target.name}.{at}"), epoch) for at, tree in enumerate(image.layers)]
    config = _json({
        "architecture": "amd64",
        "os": "linux",
        "created": instant(epoch),
        "config": {
            "User": image.user,
            "Env": [f"{name}={value}" for name, value in sorted(image.environment.items())],
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
            "Labels": dict(sorted(image.labels.items())),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created": instant(epoch), "created_by": "images.recipe"} for _ in layers],
    })  # fmt: skip
    manifest = _json({
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, "digest": _digest(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER_TYPE, "digest": one.digest, "size": one.size} for one in layers],
    })  # fmt: skip
    index = _json({
        "schemaVersion": 2,
        "mediaType": _INDEX_TYPE,
        "manifests": [{
            "mediaType": _MANIFEST_TYPE,
            "digest": _digest(manifest),
            "size": len(manifest),
            "platform": {"architecture": "amd64", "os": "linux"},
            "annotations": {
                "io.containerd.image.name": image.reference,
                "org.opencontainers.image.ref.name": image.tag,
            },
        }],
    })  # fmt: skip
    for_docker = _json([{
        "Config": _blob(_digest(config)),
        "RepoTags": [image.reference],
        "Layers": [_blob(one.digest) for one in layers],
    }])  # fmt: skip
    small = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": index,
        "manifest.json": for_docker,
        _blob(_digest(config)): config,
        _blob(_digest(manifest)): manifest,
    }
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in sorted(small.items()):
            archive.addfile(_plain(name, len(content), 0o644, epoch), io.BytesIO(content))
        for layer in {one.digest: one for one in layers}.values():
            with layer.file.open("rb") as content_of_layer:
                archive.addfile(_plain(_blob(layer.digest), layer.size, 0o644, epoch), content_of_layer)
    for layer in layers:
        layer.file.unlink()
    return Written(image.name, image.reference, _digest(manifest), sum(one.size for one in layers))


@dataclass(frozen=True, slots=True)
class _Layer:
    file: Path
    digest: str
    size: int


def _layer_of(tree: Tree, target: Path, epoch: int) -> _Layer:
    with target.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for path, entry in tree.whole().items():
            _add(layer, path, entry, epoch)
    with target.open("rb") as written:
        return _Layer(target, _digest_of_file(written), target.stat().st_size)


def _add(layer: tarfile.TarFile, path: str, entry: File | Link | int, epoch: int) -> None:
    if isinstance(entry, File):
        content = entry.read()
        layer.addfile(_plain(path, len(content), entry.mode, epoch), io.BytesIO(content))
        return
    made = _plain(path, 0, entry if isinstance(entry, int) else 0o777, epoch)
    made.type = tarfile.DIRTYPE if isinstance(entry, int) else tarfile.SYMTYPE
    made.linkname = "" if isinstance(entry, int) else entry.target
    layer.addfile(made)


def _plain(name: str, size: int, mode: int, epoch: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.mtime = size, mode, epoch
    return made


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _digest_of_file(file: BinaryIO) -> str:
    made = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        made.update(piece)
    return f"sha256:{made.hexdigest()}"


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def instant(epoch: int) -> str:
    """A time as RFC 3339 has it."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
