"""Must show 1 and 8, and the demo that is kept: all is said, all works with the official clients, all of it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
import zstandard

from ext_proc import cli
from ext_proc.demo import story
from tests.e2e.harness import LoopThread
from tests.e2e.upstream import Upstream, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Gateway

AFFIDAVIT = [sys.executable, "-m", "ext_proc"]
KEYS = {
    "gateway", "gateway_tls", "issuer", "token_endpoint", "s3", "envoy_admin", "access_log", "opa", "config", "pids", "policy",
    "console", "approvals",
}  # fmt: skip


def test_the_story_is_as_told() -> None:
    done = subprocess.run([*AFFIDAVIT, "demo"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "every step was as told" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: .venv/bin/affidavit demo --keep ")
    assert " in s3://evidence/v1/events/" in done.stdout
    assert not re.search(r"the caller got +\d{3}$", done.stdout, re.MULTILINE)  # never a status without what it said
    assert done.stdout.count("✓") == 1 and "✗" not in done.stdout
    assert done.stderr == ""


# The search of the story's last step -----------------------------------------------------------------------------------


@pytest.fixture
def searching(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> story.Story:
    gateway.records(gateway.chat("anything").header("x-affidavit-exchange") or "", "inference.outcome")
    monkeypatch.setattr(story, "SECRET", f"planted-{secrets.token_hex(8)}")  # of this test alone: objects stay
    return story.Story(gateway.stack)


def test_search_finds_nothing_where_nothing_is(searching: story.Story) -> None:
    searching._searched()


@pytest.mark.parametrize("what", ["credential", "token", "secret"])
def test_search_finds_what_a_log_gives_away(gateway: Gateway, searching: story.Story, what: str) -> None:
    value = {"credential": gateway.stack.credential, "token": searching.analyst, "secret": story.SECRET}[what]
    log = gateway.stack.logs / "planted.log"
    log.write_text(f"oh, {value}!")
    try:
        with pytest.raises(story.StoryError, match=r"in clear: logs/planted\.log"):
            searching._searched()
    finally:
        log.unlink()


def test_search_finds_what_a_compressed_object_gives_away(gateway: Gateway, searching: story.Story) -> None:
    text = f"{Path(story.__file__).read_text()} {story.SECRET}"  # enough of it that no word stays as it was
    body = zstandard.ZstdCompressor().compress(text.encode())
    assert story.SECRET.encode() not in body
    client, bucket = gateway.stack.s3.client(), gateway.stack.s3.bucket
    client.put_object(Bucket=bucket, Key=f"planted/{secrets.token_hex(4)}.zst", Body=body)
    with pytest.raises(story.StoryError, match="in clear: planted/"):
        searching._searched()


def test_search_of_nothing_is_no_search(searching: story.Story, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [one for one in searching._everything() if not one[0].startswith("v1/events/")]
    monkeypatch.setattr(searching, "_everything", lambda: everything)
    with pytest.raises(story.StoryError, match="nothing to look into: v1/events/"):
        searching._searched()


# The demo that is kept -------------------------------------------------------------------------------------------------


def _begin(endpoints: Path, *more: str) -> subprocess.Popen[str]:
    """As a script's shell begins something in the background: with SIGINT ignored."""
    command = ["bash", "-c", 'trap "" INT; exec "$@"', "_", *AFFIDAVIT, "demo", "--keep", "--endpoints", str(endpoints)]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _is_ready(demo: subprocess.Popen[str], endpoints: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while not endpoints.exists():
        assert demo.poll() is None, demo.stderr.read() if demo.stderr else ""
        assert time.monotonic() < deadline, "the demo does not get ready"
        time.sleep(0.1)
    where: dict[str, Any] = json.loads(endpoints.read_text())  # whole as soon as it is there
    return where


def _ends(demo: subprocess.Popen[str], how: signal.Signals, where: dict[str, Any]) -> None:
    demo.send_signal(how)
    time.sleep(0.2)
    demo.send_signal(how)  # the impatient do not break it off
    _, complaints = demo.communicate(timeout=90)
    assert (demo.returncode, complaints) == (0, "")
    assert [name for name, pid in where["pids"].items() if _is_running(pid)] == []
    assert not Path(where["config"]).exists()  # its files are gone too


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Two kept demos at the same time: one with its model, one before a server of our own; each ended in its own way."""
    loop, upstream = LoopThread(), Upstream({"/v1/chat/completions": shapes("mine")["/plain"]})
    loop.run(upstream.start())
    folder = tmp_path_factory.mktemp("kept")
    files = [folder / "one.json", folder / "two.json"]
    files[0].write_text("of an earlier run")
    demos = [_begin(files[0]), _begin(files[1], "--upstream", f"http://127.0.0.1:{upstream.port}/v1")]
    try:
        deadline = time.monotonic() + 30
        while files[0].exists() and files[0].read_text() == "of an earlier run":
            assert time.monotonic() < deadline, "an old endpoints file stays"
            time.sleep(0.02)
        found = [_is_ready(demo, file) for demo, file in zip(demos, files, strict=True)]
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 2  # they hold S3 keys
        yield found
        _ends(demos[0], signal.SIGINT, found[0])
        _ends(demos[1], signal.SIGTERM, found[1])
        assert [file for file in files if file.exists()] == []  # nobody takes them for those of a demo that runs
    finally:
        for demo in demos:
            demo.kill()
            demo.wait()
        loop.run(upstream.stop())
        loop.stop()


def _token(where: dict[str, Any], tmp_path: Path, *groups: str) -> str:
    path = tmp_path / "endpoints.json"
    path.write_text(json.dumps(where))
    command = [*AFFIDAVIT, "demo", "token", "--subject", "eve", "--groups", *groups, "--endpoints", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_endpoints_say_exactly_this(two: list[dict[str, Any]]) -> None:
    for where in two:
        assert set(where) == KEYS
        assert set(where["s3"]) == {"endpoint", "bucket", "prefix", "region", "access_key", "secret_key"}
        assert where["gateway"].startswith("http://127.0.0.1:") and not where["gateway"].endswith("/v1")
        assert where["gateway_tls"].startswith("https://127.0.0.1:")
        assert Path(where["access_log"]).exists() and Path(where["config"]).exists()
        assert Path(where["opa"].removeprefix("unix://")).is_socket()
        assert {"envoy", "opa", "seaweedfs", "issuer", "supervisor", "worker-0", "worker-1", "shipper"} <= set(
            where["pids"]
        )
        assert all(_is_running(pid) for pid in where["pids"].values())
    one, other = two
    assert "model" in one["pids"] and "model" not in other["pids"]
    assert not set(one["pids"].values()) & set(other["pids"].values())


def test_kept_demo_works_with_the_official_clients(two: list[dict[str, Any]], tmp_path: Path) -> None:
    where = two[0]
    token = _token(where, tmp_path, "analysts")
    chat = openai.OpenAI(base_url=f"{where['gateway']}/v1", api_key=token, max_retries=0)
    hello: Any = [{"role": "user", "content": "hello"}]
    assert chat.chat.completions.create(model="demo", max_tokens=4, messages=hello).choices[0].message.content
    chunks = list(chat.chat.completions.create(model="demo", max_tokens=4, messages=hello, stream=True))
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert len(chat.embeddings.create(model="demo", input="hello").data[0].embedding) > 100
    messages = anthropic.Anthropic(base_url=where["gateway"], api_key=token, max_retries=0)
    assert messages.messages.create(model="demo", max_tokens=4, messages=hello).usage.output_tokens > 0
    assert _status_of(where, _token(where, tmp_path, "guests")) == 403


def test_another_model_server_behind_the_connection(two: list[dict[str, Any]], tmp_path: Path) -> None:
    token = _token(two[1], tmp_path, "analysts")
    client = openai.OpenAI(base_url=f"{two[1]['gateway']}/v1", api_key=token, max_retries=0)
    made = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert made.choices[0].message.content == "mine"
    assert _status_of(two[0], token) == 401  # each has an issuer of its own


def _status_of(where: dict[str, Any], token: str) -> int:
    stranger = openai.OpenAI(base_url=f"{where['gateway']}/v1", api_key=token, max_retries=0)
    with pytest.raises(openai.APIStatusError) as refused:
        stranger.models.list()
    return refused.value.status_code


# What is in its bucket -------------------------------------------------------------------------------------------------


def _records(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In this process: the imports would take longer than the rest."""
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = cli.main(["records", *arguments, "--config", str(where)])
    return subprocess.CompletedProcess(arguments, status, said.getvalue(), complained.getvalue())


def test_records_of_one_exchange(gateway: Gateway) -> None:
    reply = gateway.chat("I am bob@example.org", path="/v1/shape/plain")
    exchange_id = reply.header("x-affidavit-exchange") or ""
    gateway.records(exchange_id, "inference.intent", "inference.outcome")
    config = gateway.stack.config

    listed = _records(config, "list", "--json", "--limit", "1000")
    assert (listed.returncode, listed.stderr) == (0, "")
    [row] = [row for row in map(json.loads, listed.stdout.splitlines()) if row["exchange"] == exchange_id]
    said = (row["connection"], row["model"], row["outcome"], row["http_status"], row["masked"])
    assert said == ("demo", "demo", "completed", 200, 2)
    assert len(_records(config, "list", "--json", "--limit", "1").stdout.splitlines()) == 1

    shown = _records(config, "show", exchange_id, "--json", "--payloads")
    assert (shown.returncode, shown.stderr) == (0, "")
    intent, outcome = [json.loads(line) for line in shown.stdout.splitlines()]
    assert intent["object"].startswith("v1/events/")
    assert "bob@example.org" in intent["payloads"]["request.raw"]
    assert "bob@" not in intent["payloads"]["request.forwarded"]
    assert outcome["payloads"]["response.released"] == reply.body.decode()
    for_people = _records(config, "show", exchange_id)
    assert exchange_id in for_people.stdout and "bob@" not in for_people.stdout


def test_records_of_no_exchange(gateway: Gateway) -> None:
    done = _records(gateway.stack.config, "show", "no-such-exchange")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("no record of no-such-exchange in the bucket")


def test_records_for_a_reader_that_leaves(gateway: Gateway) -> None:
    """``affidavit records list | head``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [*AFFIDAVIT, "records", "list", "--json", "--config", str(gateway.stack.config)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
