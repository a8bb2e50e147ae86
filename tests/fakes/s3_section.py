"""The section ``audit.s3`` of a configuration for a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.demo.seaweed import Seaweed


def s3_section(folder: Path, seaweed: Seaweed, prefix: str) -> dict[str, Any]:
    """For SeaweedFS, with the gateway's own credentials in a file in ``folder``."""
    (folder / "s3").write_text(
        f"[default]\naws_access_key_id={seaweed.access_key}\naws_secret_access_key={seaweed.secret_key}\n"
    )
    return {
        "bucket": seaweed.bucket,
        "prefix": prefix,
        "endpoint": seaweed.endpoint,
        "credentials_file": str(folder / "s3"),
        "retention_days": 10,
    }
