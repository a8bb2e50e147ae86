"""A configuration whose files are there, for what runs in this process: keys, policy bundle, directories; no programs."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import yaml

from ext_proc.audit.keys import create_key_files
from ext_proc.config import Config, load

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY = "audit.example"
"""As in `tests.fakes.log`."""


def a_config(folder: Path, **audit: Any) -> tuple[Config, str]:
    """The configuration and its digest; ``audit`` changes that section."""
    keys = folder / "keys"
    if not keys.exists():
        keys.mkdir(mode=0o700)
        create_key_files(keys, "kek", "pepper", "log-key", "receipt-key", "hash-key")
        _write_bundle(folder / "bundle.tar.gz")
        for name in ("run/state", "state"):
            (folder / name).mkdir(parents=True, mode=0o700)
    told = {
        "run_dir": str(folder / "run"),
        "state_dir": str(folder / "state"),
        "identity": {"issuers": [{"issuer": "https://login.example.com", "audiences": ["affidavit"]}]},
        "policy": {"opa_socket": str(folder / "opa.sock"), "bundle_file": str(folder / "bundle.tar.gz")},
        "redaction": {"hash_key_file": str(keys / "hash-key")},
        "audit": {
            "origin": GATEWAY,
            "replica": "gw-0",
            "key_encryption_key_file": str(keys / "kek"),
            "pepper_file": str(keys / "pepper"),
            "signing": {"file": str(keys / "log-key")},
            "receipt_key_file": str(keys / "receipt-key"),
            "s3": {"bucket": "evidence", "endpoint": "http://127.0.0.1:9"},
            **audit,
        },
        "connections": [{"name": "model", "upstream": {"url": "https://model.example.com"}}],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(told))
    return load(path)


def _write_bundle(path: Path) -> None:
    manifest = json.dumps({"revision": "r1"}).encode()
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("/.manifest")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))
