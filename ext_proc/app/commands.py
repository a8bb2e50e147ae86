"""What the commands on a running or recorded gateway do."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ext_proc.app import registry
from ext_proc.app.process import RELOAD_SECONDS, clock, read_states
from ext_proc.app.shipping import store_of
from ext_proc.audit import reader
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from ext_proc.config import Config


def config_of(config: Path | None, endpoints: Path | None) -> Config:
    """The configuration, named directly or through a demo's endpoints file.

    Raises:
        ConfigError: it cannot be read.
    """
    return load(path_of(config, endpoints))[0]


def path_of(config: Path | None, endpoints: Path | None) -> Path:
    """The configuration's file, named directly or through a demo's endpoints file.

    Raises:
        ConfigError: the endpoints file is none, or its demo is gone.
    """
    if config is not None:
        return config
    if endpoints is None:
        raise ConfigError("name --config or --endpoints")
    try:
        named = Path(json.loads(endpoints.read_text())["config"])
    except OSError as error:
        raise ConfigError(f"{endpoints}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{endpoints}: not the endpoints file of a demo") from None
    if not named.exists():
        raise ConfigError(f"{endpoints}: {named} is gone: does the demo still run?")
    return named


def reload(path: Path) -> int:
    """Ask the running supervisor to take over the configuration's connections, and wait for what it says."""
    from ext_proc.app import edge_files  # heavy, and nothing for those who read records

    config, digest = load(path)
    edge_files.check(config)
    state = read_states(config.run_dir).get("supervisor")
    if state is None:
        raise ConfigError(f"nothing runs in {config.run_dir}")
    asked_at = clock().timestamp()
    try:
        os.kill(state["pid"], signal.SIGHUP)
    except OSError as error:
        raise ConfigError(f"process {state['pid']} of {config.run_dir}: {error.strerror}") from None
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


def list_records(config: Config, limit: int, as_json: bool) -> int:  # noqa: FBT001 - from the command line
    """Print one line for each exchange in the bucket."""
    console = Console()
    found: dict[str, dict[str, Any]] = {}
    try:
        with console.status("reading the bucket") if not as_json else nullcontext():
            for key, leaf in reader.leaves(store_of(config)):
                if leaf["kind"].startswith("inference."):
                    found.setdefault(leaf["exchange_id"], {})[leaf["kind"]] = {"object": key, **leaf}
    except (StoreUnavailable, StoreRefused) as error:
        raise _no_bucket(config, error) from None
    except IntegrityError as error:
        print(f"affidavit: an object of the bucket cannot be read: {error.detail}", file=sys.stderr)
        return 1
    rows = sorted((_row(name, kinds) for name, kinds in found.items()), key=lambda row: str(row["at"]))[-limit:]
    if as_json:
        for row in rows:
            print(json.dumps(row, sort_keys=True))
        return 0
    table = Table(*_COLUMNS, box=None)
    for row in rows:
        table.add_row(*(str(row[name] if row[name] is not None else "") for name in _COLUMNS))
    whole = console.measure(table, options=console.options.update(max_width=_WIDTH_MAX)).maximum
    console.width = max(console.width, whole)  # an id that is cut off is of no use, nor one in a pipe of 80 columns
    console.print(table)
    return 0


_COLUMNS = ("at", "exchange", "connection", "model", "outcome", "http_status", "code", "masked")
_WIDTH_MAX = 10_000


def _row(exchange_id: str, kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    outcome = kinds.get("inference.outcome", {})
    first = kinds.get("inference.intent") or outcome
    request = first.get("request") or {}
    said = outcome.get("outcome") or {}
    parts = [leaf.get(name) or {} for leaf, name in ((first, "request_redaction"), (outcome, "response_redaction"))]
    masked = sum(one["count"] for part in parts for one in part.get("removed", ()))
    return {
        "at": first.get("at"),
        "exchange": exchange_id,
        "connection": request.get("connection"),
        "model": request.get("model"),
        "outcome": said.get("status", "in flight"),
        "http_status": said.get("http_status"),
        "code": said.get("code"),
        "masked": masked,
    }


def _no_bucket(config: Config, error: StoreUnavailable | StoreRefused) -> ConfigError:
    mend = ": set audit.s3.credentials_file or AWS's own" if "CredentialsError" in str(error) else ""
    return ConfigError(f"bucket {config.audit.s3.bucket}: {error}{mend}")


def show_record(config: Config, exchange_id: str, *, with_payloads: bool, as_json: bool) -> int:
    """Print the records of one exchange."""
    store = store_of(config)
    try:
        found = reader.exchange(store, exchange_id)
        if not found:
            print(f"no record of {exchange_id} in the bucket (evidence of the last seconds may still be on its way)")
            return 1
        for key, leaf in found:
            shown: dict[str, Any] = {"object": key, "leaf": leaf}
            if with_payloads:
                section = config.audit
                keyring = KeyRing.from_files(
                    section.key_encryption_key_file, section.pepper_file, registry.key_registry(config)
                )
                shown["payloads"] = {
                    role: body.decode(errors="replace")
                    for role, body in reader.payloads(store, keyring, key, leaf).items()
                }
            print(json.dumps(shown, sort_keys=True, ensure_ascii=False, indent=None if as_json else 2))
    except (StoreUnavailable, StoreRefused) as error:
        raise _no_bucket(config, error) from None
    except IntegrityError as error:
        print(f"affidavit: a record or payload cannot be read: {error.detail}", file=sys.stderr)
        return 1
    return 0
