"""Must show 6: ``affidavit canary`` against SeaweedFS and against moto, side by side. Run with ``-s`` to see the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config as BotoConfig
from moto.server import ThreadedMotoServer

from ext_proc.demo.seaweed import start_seaweed
from tests.fakes.configured import GATEWAY, a_config
from tests.fakes.s3_section import s3_section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def seaweed_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", retention_days=10)
    a_config(folder, s3=s3_section(folder, server, "p/"))
    yield folder / "config.yaml"
    server.program.stop()


@pytest.fixture(scope="module")
def moto_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("moto")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _forget()  # its buckets are the process's: another test's would still be there
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    (folder / "s3").write_text("[default]\naws_access_key_id=nobody\naws_secret_access_key=asks\n")
    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="asks",
        config=BotoConfig(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="evidence", ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 10}}
    client.put_object_lock_configuration(
        Bucket="evidence", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    s3 = {"bucket": "evidence", "endpoint": endpoint, "credentials_file": str(folder / "s3"), "retention_days": 10}
    a_config(folder, s3=s3)
    yield folder / "config.yaml"
    server.stop()


def canary(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ext_proc", "canary", *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_side_by_side(seaweed_config: Path, moto_config: Path):
    done = canary("--config", seaweed_config, "--config", moto_config)
    print(done.stdout)
    assert done.stderr == ""
    assert done.returncode == 1
    assert "22 of 22 hold" in done.stdout
    assert "12 of 22 hold" in done.stdout
    first, second = [line for line in done.stdout.splitlines() if "; record " in line]
    assert f"keeps what it locks; record 1 of {GATEWAY}/gw-0-command/" in first
    for hole in ("shorten", "downgrade", "unlock", "multipart_lock"):  # what moto is known for
        assert hole in second.partition("has holes: ")[2]


def test_the_report_is_on_record(seaweed_config: Path):
    done = canary("--config", seaweed_config, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert told["holes"] == []
    # Its log is on the disk, closed, and waits for the shipper.
    epoch = told["record"]["origin"].rpartition("/")[2]
    sealed = [path.read_bytes() for path in (seaweed_config.parent / "state" / "evidence" / epoch).glob("*.sealed")]
    assert sum(b'"kind":"worm.canary"' in one for one in sealed) == 1
    assert sum(b'"kind":"log.close"' in one for one in sealed) == 1


def test_a_store_that_does_not_answer_is_no_finding(tmp_path: Path):
    (tmp_path / "s3").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    s3 = {"bucket": "evidence", "endpoint": "http://127.0.0.1:1", "credentials_file": str(tmp_path / "s3")}
    a_config(tmp_path, s3=s3)
    done = canary("--config", tmp_path / "config.yaml")
    assert done.returncode == 2
    assert "nothing is known of the store" in done.stderr
    assert "Traceback" not in done.stderr


def _forget() -> None:
    from moto.core.base_backend import BackendDict
    from moto.s3.models import s3_backends

    assert isinstance(s3_backends, BackendDict)
    s3_backends.reset()
