"""`ext_proc.demo.story`: what it prints can be used."""

from __future__ import annotations

import pytest

from ext_proc.config import S3Section
from ext_proc.demo.story import s3_url


@pytest.mark.parametrize("prefix", ["", "prod/"])
def test_address_names_bucket_and_prefix(prefix: str) -> None:
    section = S3Section(bucket="evidence", prefix=prefix)
    assert s3_url(section, "v1/events/a.zst") == f"s3://evidence/{prefix}v1/events/a.zst"
