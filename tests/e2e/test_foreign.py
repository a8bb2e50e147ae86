"""Must show 1: a log that a real gateway wrote, exported, is accepted by Tessera's fsck, by aics-tlog and by ours; one
flipped bit is refused by all three."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ext_proc.verify import verify
from tests.e2e.conftest import Gateway, running_gateway
from tests.e2e.upstream import Upstream
from tests.foreign.verifiers import BOTH_ACCEPT, BOTH_REFUSE, classes, flip, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXCHANGES = 135
"""Two leaves each: more than the 256 that a full tile holds."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway has run, and is stopped in order; its store goes on."""
    with running_gateway(tmp_path_factory.mktemp("written"), Upstream({}), workers=1) as made:
        with ThreadPoolExecutor(8) as callers:
            replies = list(callers.map(lambda number: made.chat(f"question {number}"), range(EXCHANGES)))
        assert {reply.status for reply in replies} == {200}
        for name in ("envoy", "supervisor"):
            made.stack.programs[name].stop()
        yield made


@pytest.fixture(scope="module")
def exported(written: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "copy"
    s3 = written.stack.s3
    env = {
        "PATH": "/usr/bin:/bin",
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_DEFAULT_REGION": s3.region,
    }
    command = [sys.executable, "-m", "ext_proc", "export", f"s3://{s3.bucket}/", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def logs(exported: Path) -> dict[str, Path]:
    """Each log's folder by its origin."""
    folders = sorted(path.parent for path in exported.glob("logs/*/*/checkpoint"))
    return {(folder / "checkpoint").read_text().partition("\n")[0]: folder for folder in folders}


def ours(exported: Path, written: Gateway) -> set[str]:
    report = verify(str(exported), written.stack.auditor_policy, jobs=1)
    assert report.leaves >= 2 * EXCHANGES
    return {one.code for one in report.findings}


def test_all_three_accept(exported: Path, written: Gateway):
    found = logs(exported)
    assert {origin.split("/")[-2] for origin in found} >= {"gw-0-0", "gw-0-shipper"}
    assert {origin: verdicts(folder, origin) for origin, folder in found.items()} == dict.fromkeys(found, BOTH_ACCEPT)
    assert ours(exported, written) == set()


def test_all_three_refuse_one_flipped_bit(exported: Path, written: Gateway):
    [(origin, folder)] = [(origin, folder) for origin, folder in logs(exported).items() if "/gw-0-0/" in origin]
    files = classes(folder)
    assert {"0 full", "0 partial", "1 partial", "entries full", "entries partial", "checkpoint", "log.vkey"} <= set(
        files
    )
    for name, path in files.items():
        kept = path.read_bytes()
        flip(path)
        assert {name: verdicts(folder, origin)} == {name: BOTH_REFUSE}
        assert {name: ours(exported, written)} != {name: set()}
        path.write_bytes(kept)
    assert verdicts(folder, origin) == BOTH_ACCEPT
    assert ours(exported, written) == set()
