"""What every process of ours does: end with its parent, and say how it is in a small file that the supervisor reads."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: no gate without its supervisor. (Linux; elsewhere nothing.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def tell(run_dir: Path, name: str, state: dict[str, Any]) -> None:
    """Write ``state`` where `read_states` finds it."""
    folder = run_dir / "state"
    temporary = folder / f".{name}.new"
    temporary.write_text(json.dumps({**state, "pid": os.getpid()}))
    temporary.rename(folder / f"{name}.json")


def read_states(run_dir: Path) -> dict[str, dict[str, Any]]:
    """What each process last said, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((run_dir / "state").glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return found
