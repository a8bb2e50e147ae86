"""``python -m images``: make them (`make images`), make them twice and compare, or lock Debian's packages anew."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from images import recipe
from images.archive import File, write_image
from images.debian import ImageError, lock
from images.wheels import ROOT

OUT = ROOT / "build" / "images"
CACHE = ROOT / "build" / "cache"
PROGRAMS = ROOT / ".tools" / "bin"


def main() -> int:
    """Exit status: 0 done, 1 two makings differ, 2 could not run."""
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ({', '.join(recipe.MANNERS)}; default: all)")
    parser.add_argument("--lock", action="store_true", help="write images/debian.lock anew")
    parser.add_argument(
        "--twice", action="store_true", help="make each again from nothing but what was fetched, compare"
    )
    parser.add_argument("--unpacked", type=Path, metavar="DIR", help="write files instead, a folder for each image")
    options = parser.parse_args()
    if unknown := set(options.names) - set(recipe.MANNERS):
        parser.error(f"there is no image {', '.join(sorted(unknown))}")
    try:
        if options.lock:
            lock(recipe.GROUND + recipe.RUNTIME + recipe.PYTHON)
            return 0
        names = options.names or list(recipe.MANNERS)
        return _unpacked(names, options.unpacked) if options.unpacked else _made(names, is_twice=options.twice)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 2


def _made(names: list[str], *, is_twice: bool) -> int:
    kitchen = _kitchen(CACHE)
    digests = _make(names, OUT, kitchen)
    if not is_twice:
        return 0
    with tempfile.TemporaryDirectory(dir=OUT.parent) as folder:
        again = Path(folder)
        for kept in ("debian", "wheels"):  # each file of these was checked by its hash
            (again / kept).symlink_to(CACHE / kept)
        # The time and the commit are the first one's: somebody may commit meanwhile.
        second = _make(names, again, recipe.Kitchen(again, PROGRAMS, kitchen.epoch, kitchen.revision))
    differ = [name for name in names if digests[name] != second[name]]
    print(f"differ: {', '.join(differ)}" if differ else "the second making has the same digests")
    return 1 if differ else 0


def _kitchen(cache: Path) -> recipe.Kitchen:
    return recipe.Kitchen(cache, PROGRAMS, recipe.epoch(), recipe.revision())


def _make(names: list[str], out: Path, kitchen: recipe.Kitchen) -> dict[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name in names:
        image = kitchen.image(name)
        written = write_image(image, out / f"{name}.tar", kitchen.epoch)
        if isinstance(bill := image.layers[-1].entries[recipe.bill_path(name)], File):
            (out / f"{name}.cdx.json").write_bytes(bill.read())
        facts = {"reference": written.reference, "digest": written.digest, "layer_bytes": written.layer_bytes}
        (out / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        digests[name] = written.digest
        print(f"{written.reference}  {written.digest}  {written.layer_bytes / 1e6:.0f} MB", flush=True)
    return digests


def _unpacked(names: list[str], target: Path) -> int:
    kitchen = _kitchen(CACHE)
    for name in names:
        shutil.rmtree(target / name, ignore_errors=True)
        for layer in kitchen.image(name).layers:
            layer.unpack(target / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
