"""Where evidence is read from, as people name it: a bucket, or the directory of an export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.evidence.directory import ExportedVersions

if TYPE_CHECKING:
    from ext_proc.evidence.versions import VersionedStore


def open_store(source: str) -> VersionedStore:
    """The evidence at ``s3://bucket/prefix`` (credentials as the AWS libraries find them) or in an export.

    Raises:
        EvidenceError: it is neither, or cannot be read.
    """
    if Path(source).is_dir():
        return ExportedVersions(Path(source))
    from ext_proc.evidence.s3 import S3Versions  # whoever has a copy needs no AWS

    return S3Versions.of_url(source)
