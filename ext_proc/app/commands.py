"""What the commands on a running or recorded gateway do."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ext_proc.app.process import RELOAD_SECONDS, clock, is_supervised, read_states
from ext_proc.config import load
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from ext_proc.config import Config


def config_of(config: Path | None, endpoints: Path | None) -> tuple[Config, str]:
    """The configuration and its file's SHA-256, named directly or through a demo's endpoints file.

    Raises:
        ConfigError: it cannot be read.
    """
    return load(path_of(config, endpoints))


def path_of(config: Path | None, endpoints: Path | None) -> Path:
    """The configuration's file, named directly or through a demo's endpoints file.

    Raises:
        ConfigError: the endpoints file is none, or its demo is gone.
    """
    if config is not None:
        return config
    if endpoints is None:
        raise ConfigError("name --config or --endpoints")
    named = Path(said_by_demo(endpoints, "config"))
    if not named.exists():
        raise ConfigError(f"{endpoints}: {named} is gone: does the demo still run?")
    return named


def said_by_demo(endpoints: Path, name: str) -> str:
    """What the endpoints file of a demo says of one thing.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        said = json.loads(endpoints.read_text())[name]
    except OSError as error:
        raise ConfigError(f"{endpoints}: {error.strerror}; affidavit demo --keep --endpoints FILE writes it") from None
    except (ValueError, LookupError, TypeError):
        said = None
    if not isinstance(said, str):
        raise ConfigError(f"{endpoints}: not the endpoints file of a demo (affidavit demo --keep --endpoints FILE)")
    return said


def save(path: Path, text: str) -> None:
    """Write what somebody asked for in a file.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def reload(path: Path) -> int:
    """Ask the running supervisor to take over the configuration's connections, and wait for what it says."""
    from ext_proc.app import edge_files  # heavy, and nothing for those who read records

    config, digest = load(path)
    edge_files.check(config)
    asked_at = clock().timestamp()
    state = _ask(config.run_dir)
    deadline = monotonic() + RELOAD_SECONDS + 5
    while monotonic() < deadline:
        state = read_states(config.run_dir).get("supervisor", {})
        if state.get("at", 0) >= asked_at:  # said since we asked
            if state["refused"] is not None:
                print(f"affidavit: not taken over: {state['refused']['why']}", file=sys.stderr)
                return 1
            if state["config_sha256"] == digest:
                print(f"taken over (SHA-256 {digest}); connections: {', '.join(c.name for c in config.connections)}")
                return 0
        sleep(0.05)
    raise ConfigError(f"process {state.get('pid')} of {config.run_dir} does not answer")


def _ask(run_dir: Path) -> dict[str, Any]:
    """Signal the supervisor that runs there. What it last said outlives it, and its number may be another's by now: it
    is held first (pidfd_open(2)), and then it must be one that still has the folder.
    """
    nobody = ConfigError(f"nothing runs in {run_dir}: start `affidavit serve`")
    state = read_states(run_dir).get("supervisor")
    if state is None:
        raise nobody
    try:
        held = os.pidfd_open(state["pid"])
        try:
            if not is_supervised(run_dir):
                raise nobody
            signal.pidfd_send_signal(held, signal.SIGHUP)
        finally:
            os.close(held)
    except ProcessLookupError:
        raise nobody from None
    except OSError as error:
        raise ConfigError(f"process {state['pid']} of {run_dir}: {error.strerror}") from None
    return state
