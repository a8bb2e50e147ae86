"""Verifiers by others, of which none of us wrote a line: Tessera's ``fsck`` (Go) and ``aics-tlog`` (Python).

`verdicts` is for every folder of ``{checkpoint, tile/, log.vkey}``, whoever wrote it.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ext_proc.demo.programs import tool

if TYPE_CHECKING:
    from pathlib import Path

BOTH_ACCEPT = {"fsck": True, "aics-tlog": True}
BOTH_REFUSE = {"fsck": False, "aics-tlog": False}
# Its command reads only the tree's right edge; its library walks every tile and every entry.
_AUDIT = """
import sys, pathlib
from aics_tlog import FileSystemTileReader, audit_tiles
from aics_tlog.checkpoint import checkpoint_from_note
folder = pathlib.Path(sys.argv[1])
checkpoint, _ = checkpoint_from_note((folder / "checkpoint").read_bytes())
audit_tiles(FileSystemTileReader(folder), checkpoint.size, checkpoint.root)
"""


def verdicts(folder: Path, origin: str) -> dict[str, bool]:
    """Does each accept the log in ``folder``?"""
    return {"fsck": fsck(folder, origin), "aics-tlog": aics_tlog(folder, origin)}


def fsck(folder: Path, origin: str) -> bool:
    """Tessera's. v1.0.4 ends with 0 whatever it found: what it says decides."""
    done = _run(
        tool("tessera-fsck"),
        f"--storage_url=file://{folder}/",
        f"--public_key={folder / 'log.vkey'}",
        f"--origin={origin}",
        "--N=8",
        "--ui=false",
    )
    said = done.stdout + done.stderr
    return done.returncode == 0 and "Successfully fsck'd log with size" in said and "fsck failed" not in said


def aics_tlog(folder: Path, origin: str) -> bool:
    """The checkpoint's signature and root with its command, then every tile and entry with its library.

    It takes no key file that lies beside the tiles, and rightly: such a key proves nothing. The test made it.
    """
    program = tool("aics-tlog")
    key = (folder / "log.vkey").read_text().strip()
    command = ("verify-checkpoint", "--log-key", key, "--tiles", folder, "--origin", origin)
    python = program.resolve().parent / "python"
    return _run(program, *command).returncode == 0 and _run(python, "-c", _AUDIT, folder).returncode == 0


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )


def flip(path: Path) -> None:
    """One bit in the middle of a file (of a checkpoint: in its root hash)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\n", data.index(b"\n") + 1) + 5 if path.name == "checkpoint" else len(data) // 2
    data[at] ^= 1
    path.write_bytes(data)


def classes(folder: Path) -> dict[str, Path]:
    """One file of each class that there is: full and partial tiles of each level, entries, checkpoint, key."""
    found = {"checkpoint": folder / "checkpoint", "log.vkey": folder / "log.vkey"}
    for path in sorted((folder / "tile").rglob("*")):
        if path.is_file():
            level = path.relative_to(folder).parts[1]
            found.setdefault(f"{level} {'partial' if path.parent.suffix == '.p' else 'full'}", path)
    return found
