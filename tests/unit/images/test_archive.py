"""`images.archive`: the same files give the same bytes, and what is written is what engines read."""

from __future__ import annotations

import hashlib
import json
import tarfile
from typing import TYPE_CHECKING

from images.archive import File, Image, Link, Tree, Written, write_image

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1_700_000_000


def tree(*, is_reversed: bool = False) -> Tree:
    made = Tree()
    entries = [("usr/bin/a", File(b"a", 0o755)), ("etc/b", File(b"b")), ("bin", Link("usr/bin")), ("tmp", 0o1777)]
    for path, entry in reversed(entries) if is_reversed else entries:
        made.put(path, entry)
    return made


def written(target: Path, *trees: Tree) -> Written:
    image = Image("one", trees, ("/usr/bin/a",), {"PATH": "/usr/bin"}, "10001:10001", {"x": "y"}, "1.2.3")
    return write_image(image, target, EPOCH)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "first.tar", tree())
    second = written(tmp_path / "second.tar", tree(is_reversed=True))
    assert first.digest == second.digest
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first.tar", "second.tar"]


def test_another_content_mode_or_target_gives_another_digest(tmp_path: Path) -> None:
    digests = {written(tmp_path / "0.tar", tree()).digest}
    for path, entry in (("etc/b", File(b"c")), ("etc/b", File(b"b", 0o755)), ("bin", Link("usr/sbin")), ("tmp", 0o755)):
        changed = tree()
        changed.put(path, entry)
        digests.add(written(tmp_path / "1.tar", changed).digest)
    assert len(digests) == 5


def test_every_digest_names_what_it_says(tmp_path: Path) -> None:
    """As an engine goes: from the index to the manifest, its configuration and its layers; Docker's list is the same."""
    lower = tree()
    upper = Tree()
    upper.put("opt/c", File(b"c"))
    target = tmp_path / "image.tar"
    made = written(target, lower, upper)
    with tarfile.open(target) as archive:

        def blob(digest: str) -> bytes:
            file = archive.extractfile("blobs/" + digest.replace(":", "/"))
            assert file is not None
            content = file.read()
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
            return content

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        [described] = json.loads(member("index.json"))["manifests"]
        assert described["digest"] == made.digest
        assert described["annotations"]["io.containerd.image.name"] == made.reference == "localhost/one:1.2.3"
        manifest = json.loads(blob(described["digest"]))
        config = json.loads(blob(manifest["config"]["digest"]))
        layers = [one["digest"] for one in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == layers
        assert [len(blob(one)) for one in layers] == [one["size"] for one in manifest["layers"]]
        assert config["config"]["User"] == "10001:10001"
        assert config["created"] == "2023-11-14T22:13:20Z"
        [docker] = json.loads(member("manifest.json"))
        assert docker["RepoTags"] == [made.reference]
        assert docker["Layers"] == ["blobs/" + one.replace(":", "/") for one in layers]
        file = archive.extractfile(docker["Layers"][0])
        with tarfile.open(fileobj=file) as layer:
            members = layer.getmembers()
    assert [one.name for one in members] == ["bin", "etc", "etc/b", "tmp", "usr", "usr/bin", "usr/bin/a"]
    assert {(one.uid, one.gid, one.uname, one.mtime) for one in members} == {(0, 0, "", EPOCH)}
    assert {one.name: one.mode for one in members}["tmp"] == 0o1777


def test_a_folder_with_what_is_wanted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "b").write_bytes(b"b")
    (source / "a" / "b").chmod(0o700)
    (source / "c").write_bytes(b"c")
    (source / "d").symlink_to("c")
    made = Tree()
    made.put_folder(source, "opt", wanted=lambda path: path != "c")
    assert made.entries == {"opt/a/b": File(source / "a" / "b", 0o755), "opt/d": Link("c")}
    made.unpack(tmp_path / "root")
    made.unpack(tmp_path / "root")
    assert (tmp_path / "root" / "opt" / "a" / "b").read_bytes() == b"b"
    assert (tmp_path / "root" / "opt" / "d").readlink().as_posix() == "c"
