"""`ext_proc.cli`: whatever is typed or lies in a file, a clear message and an exit status, never a traceback."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc import __version__
from ext_proc.app.evidence import auditing
from ext_proc.cli import build_parser, main
from tests.unit.test_config import VALID

if TYPE_CHECKING:
    from collections.abc import Iterator

Said = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    whole: dict[str, Any] = {**VALID, "run_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state")}
    keys = tmp_path / "s3"
    keys.write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
    s3 = {"bucket": "evidence", "endpoint": "http://127.0.0.1:1", "credentials_file": str(keys)}
    path.write_text(yaml.safe_dump({**whole, "audit": {**VALID["audit"], "s3": s3}}))
    return path


def _status(*arguments: str | Path) -> int:
    """The exit status, whichever way the command ends."""
    try:
        return main([str(one) for one in arguments])
    except SystemExit as left:
        return int(left.code or 0)


def test_version_and_help(capsys: Said) -> None:
    assert _status("--version") == 0
    assert capsys.readouterr().out == f"affidavit {__version__}\n"
    assert _status("--help") == 0
    shown = capsys.readouterr().out
    assert "check-config" in shown
    assert not re.search(r"^ +(work|ship)\b", shown, re.MULTILINE)  # not for people


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("serve",),
        ("serve", "--config"),
        ("render",),
        ("reload",),
        ("check-config",),
        ("work", "--config", "x", "--index", "one"),
        ("records",),
        ("records", "list"),
        ("records", "list", "--config", "a", "--endpoints", "b"),
        ("records", "list", "--config", "a", "--limit", "0"),
        ("records", "list", "--config", "a", "--limit", "-3"),
        ("records", "list", "--config", "a", "--limit", "many"),
        ("records", "list", "--config", "a", "--subject", "ada"),
        ("records", "list", "--config", "a", "--subject", "hmac-sha256:abc"),
        ("records", "show", "--config", "a"),
        ("erase", "--config", "a", "--reason", "b"),
        ("erase", "--config", "a", "--subject", "s"),
        ("erase", "--config", "a", "--subject", "s", "--reference", "r", "--reason", "b"),
        ("erase", "--subject", "s", "--reason", "b"),
        ("legal-hold",),
        ("legal-hold", "place", "--config", "a", "--subject", "s", "--reason", "b"),
        ("legal-hold", "release", "--config", "a", "--name", "n", "--reason", "b"),
        ("keys",),
        ("keys", "create"),
        ("keys", "rotate", "--config", "a"),
        ("canary",),
        ("demo", "--nonsense"),
        ("keys", "rotate", "--config", "a", "--new-config", "b", "--handover-hours", "abc"),
        ("check-installation", "--config", "a", "--url", "gateway.example.com", "--token-file", "t"),
        ("check-installation", "--config", "a", "--url", "https://a", "--token-endpoint", "issuer/token"),
        ("demo", "token"),
        ("demo", "token", "--subject", "a"),
    ],
    ids=" ".join,
)
def test_wrong_arguments(arguments: tuple[str, ...], capsys: Said) -> None:
    assert _status(*arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("usage: affidavit")
    assert "error: " in said.err


@pytest.mark.parametrize("number", ["0", "-3", "many", "", "1.5", "٣x"])
def test_limit_says_what_is_wanted(number: str, capsys: Said) -> None:
    assert _status("records", "list", "--config", "a", "--limit", number) == 2
    assert capsys.readouterr().err.endswith("error: argument --limit: 1 or more is wanted\n")


def test_unknown_command_is_offered_those_for_people(capsys: Said) -> None:
    assert _status("nonsense") == 2
    said = capsys.readouterr().err
    assert "'check-config'" in said
    assert "work" not in said and "ship" not in said


def test_check_config_says_what_it_does_not_look_at(capsys: Said) -> None:
    assert _status("check-config", "--help") == 0
    assert "rule packs, certificates, credentials) are\nnot looked at" in capsys.readouterr().out


COMMANDS = (
    ("serve",),
    ("check-config",),
    ("render",),
    ("reload",),
    ("work", "--index", "0"),
    ("ship",),
    ("records", "list"),
    ("records", "show", "an-id"),
    ("erase", "--subject", "ada", "--reason", "ticket 1"),
    ("legal-hold", "place", "--subject", "ada", "--name", "case-1", "--reason", "ticket 1"),
    ("legal-hold", "release", "--subject", "ada", "--name", "case-1", "--reason", "ticket 1"),
    ("legal-hold", "list"),
    ("keys", "rotate", "--new-config", "copy.yaml"),
    ("canary",),
    ("auditor-policy",),
    ("reconcile",),
    ("rollup",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), ("workers: no", "workers: "), ("a: [", "not valid YAML (line 1)")],
    ids=["missing", "wrong", "not yaml"],
)
def test_bad_configuration(
    command: tuple[str, ...], content: str | None, expected: str, tmp_path: Path, capsys: Said
) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    assert _status(*command, "--config", path) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"affidavit: configuration: {path}: ")
    assert expected in said.err
    assert said.out == ""


def test_check_config(config: Path, capsys: Said) -> None:
    assert _status("check-config", "--config", config) == 0
    assert "connections: model" in capsys.readouterr().out
    assert not (config.parent / "run").exists()


def test_check_config_of_a_pod_needs_no_pod(config: Path, capsys: Said) -> None:
    """The replica's name is in a file that only a pod has; the other files that it names are not looked at either."""
    whole = yaml.safe_load(config.read_text())
    whole["audit"]["replica_file"] = "/etc/affidavit/pod/name"
    config.write_text(yaml.safe_dump(whole))
    assert _status("check-config", "--config", config) == 0
    said = capsys.readouterr()
    assert "valid" in said.out
    assert "warning: audit.replica_file: /etc/affidavit/pod/name: No such file or directory; nothing starts" in said.err
    assert _status("render", "--config", config) == 2
    assert "audit.replica_file: /etc/affidavit/pod/name: No such file" in capsys.readouterr().err


def test_check_config_asks_the_rooms_too(config: Path, capsys: Said) -> None:
    """A file of the right form with which no worker could start is not valid."""
    whole = yaml.safe_load(config.read_text())
    whole["identity"]["issuers"][0]["issuer"] = "http://login.example"
    config.write_text(yaml.safe_dump(whole))
    assert _status("check-config", "--config", config) == 2
    assert "identity.issuers: http://login.example must be https" in capsys.readouterr().err


def test_render(config: Path, capsys: Said) -> None:
    assert _status("render", "--config", config) == 0
    path = capsys.readouterr().out.strip()
    assert path == str(config.parent / "run" / "envoy" / "bootstrap.yaml")
    assert yaml.safe_load(open(path).read())["static_resources"]  # noqa: PTH123, SIM115 - printed for programs


def test_render_where_nothing_can_be_written(config: Path, capsys: Said) -> None:
    (config.parent / "run").write_text("a file")
    assert _status("render", "--config", config) == 2
    assert "affidavit: configuration: run_dir: " in capsys.readouterr().err


def test_work_without_key_files(config: Path, capsys: Said) -> None:
    assert _status("work", "--index", "0", "--config", config) == 2
    assert "key file /etc/hash-key" in capsys.readouterr().err


def test_reload_where_nothing_runs(config: Path, capsys: Said) -> None:
    assert _status("reload", "--config", config) == 2
    assert "nothing runs in" in capsys.readouterr().err


def test_reload_of_a_gate_that_is_gone(config: Path, capsys: Said) -> None:
    states = config.parent / "run" / "state"
    states.mkdir(parents=True)
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    (states / "supervisor.json").write_text(json.dumps({"pid": ended.pid, "at": 0}))
    assert _status("reload", "--config", config) == 2
    assert "nothing runs in" in capsys.readouterr().err


BY_ENDPOINTS = (
    ("check-config",),
    ("render",),
    ("reload",),
    ("records", "list"),
    ("records", "show", "an-id"),
    ("verify",),
    ("reconcile",),
    ("rollup",),
    ("auditor-policy",),
)


@pytest.fixture
def endpoints(config: Path) -> Path:
    path = config.parent / "endpoints.json"
    path.write_text(json.dumps({"config": str(config)}))
    return path


def test_check_config_of_a_demo(config: Path, endpoints: Path, capsys: Said) -> None:
    assert _status("check-config", "--endpoints", endpoints) == 0
    assert capsys.readouterr().out.startswith(f"{config}: valid (SHA-256 ")


def test_render_for_a_demo(config: Path, endpoints: Path, capsys: Said) -> None:
    assert _status("render", "--endpoints", endpoints) == 0
    assert capsys.readouterr().out == f"{config.parent}/run/envoy/bootstrap.yaml\n"


def test_reload_of_a_demo(config: Path, endpoints: Path, capsys: Said) -> None:
    assert _status("reload", "--endpoints", endpoints) == 2
    assert (
        capsys.readouterr().err
        == f"affidavit: configuration: nothing runs in {config.parent}/run: start `affidavit serve`\n"
    )


def test_verify_of_a_demo_reaches_its_bucket_as_the_demo_does(
    config: Path, endpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"):
        monkeypatch.setenv(name, "of-somebody-else")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "elsewhere")
    whole = yaml.safe_load(config.read_text())
    whole["audit"]["s3"] |= {
        "endpoint": "http://127.0.0.1:9", "region": "demo-1", "credentials_file": str(config.parent / "credentials"),
        "prefix": "kept/",
    }  # fmt: skip
    config.write_text(yaml.safe_dump(whole))
    endpoints.write_text(json.dumps({"config": str(config), "policy": "/demo/policy.yaml"}))

    bucket = whole["audit"]["s3"]["bucket"]
    assert auditing.of_demo(endpoints, None) == (f"s3://{bucket}/kept", Path("/demo/policy.yaml"))
    assert auditing.of_demo(endpoints, Path("mine.yaml"))[1] == Path("mine.yaml")
    assert (os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_REGION"]) == ("http://127.0.0.1:9", "demo-1")
    assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == str(config.parent / "credentials")
    assert "AWS_ACCESS_KEY_ID" not in os.environ


def test_verify_needs_the_auditors_policy(endpoints: Path, capsys: Said) -> None:
    assert _status("verify", "s3://bucket/prefix") == 2
    assert "--policy FILE" in capsys.readouterr().err
    assert _status("verify", "--endpoints", endpoints) == 2  # a file of another kind: it names no policy
    assert "not the endpoints file of a demo" in capsys.readouterr().err
    assert _status("verify") == 2
    assert _status("verify", "s3://bucket/prefix", "--endpoints", endpoints) == 2


@pytest.mark.parametrize("command", BY_ENDPOINTS, ids=" ".join)
def test_demo_that_is_gone(command: tuple[str, ...], config: Path, endpoints: Path, capsys: Said) -> None:
    config.unlink()
    assert _status(*command, "--endpoints", endpoints) == 2
    said = capsys.readouterr().err
    assert said == f"affidavit: configuration: {endpoints}: {config} is gone: does the demo still run?\n"


@pytest.mark.parametrize("command", BY_ENDPOINTS, ids=" ".join)
def test_endpoints_file_that_is_not_there(command: tuple[str, ...], tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "nothing.json"
    assert _status(*command, "--endpoints", path) == 2
    missing = f"{path}: No such file or directory; affidavit demo --keep --endpoints FILE writes it"
    assert capsys.readouterr().err == f"affidavit: configuration: {missing}\n"


@pytest.mark.parametrize("command", [("records", "list"), ("records", "show", "an-id")], ids=" ".join)
def test_no_credentials_anywhere(
    command: tuple[str, ...], config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    whole = yaml.safe_load(config.read_text())
    del whole["audit"]["s3"]["credentials_file"]
    config.write_text(yaml.safe_dump(whole))
    assert _status(*command, "--config", config) == 2
    said = capsys.readouterr().err
    assert "Unable to locate credentials" in said
    assert "AWS variables and profiles" in said


@pytest.mark.parametrize("command", [("records", "list"), ("records", "show", "an-id")], ids=" ".join)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["people", "json"])
def test_store_that_does_not_answer(
    command: tuple[str, ...], form: tuple[str, ...], config: Path, capsys: Said
) -> None:
    assert _status(*command, "--config", config, *form) == 2
    said = capsys.readouterr()
    assert "affidavit: could_not_read: s3://evidence cannot be read: " in said.err
    assert "aws_secret" not in said.err


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"config": 7}', '{"config": null}', "7"])
def test_records_by_a_bad_endpoints_file(content: str, tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "endpoints.json"
    path.write_text(content)
    assert _status("records", "list", "--endpoints", path) == 2
    assert f"{path}: not the endpoints file of a demo" in capsys.readouterr().err


def test_s3_credentials_that_are_gone(config: Path, capsys: Said) -> None:
    (config.parent / "s3").unlink()
    assert _status("records", "list", "--config", config, "--json") == 2
    assert "s3" in capsys.readouterr().err


def test_reader_that_leaves(config: Path) -> None:
    """``affidavit ... | head -0``: no complaint, and the exit status that a shell shows for SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ext_proc", "check-config", "--config", str(config)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_interrupt(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ext_proc.config.read", interrupted)
    assert _status("check-config", "--config", config) == 130
    assert capsys.readouterr().err == ""


def test_help_of_approvals_tells_a_whole_round_and_every_exit_status(capsys: Said) -> None:
    assert _status("approvals", "--help") == 0
    said = capsys.readouterr().out
    steps = ["demo token", "approvals list", "approvals show", "approvals approve", "Exit status: 0"]
    assert sorted(map(said.index, steps)) == [said.index(step) for step in steps]


def test_help_of_the_console_tells_how_to_begin_and_every_exit_status(capsys: Said) -> None:
    assert _status("console", "--help") == 0
    said = capsys.readouterr().out
    words = ("/login/callback", "roles:", "check-config", "/health", "Exit status: 0", "1 its log failed")
    assert all(word in said for word in words)


def test_examples_of_approvals_are_commands(capsys: Said) -> None:
    """Each line that the help shows is one that the parser takes."""
    _status("approvals", "--help")
    shown = [
        shlex.split(line.partition(" #")[0])
        for line in capsys.readouterr().out.replace("\\\n", " ").splitlines()
        if line.startswith("  affidavit ")
    ]
    assert len(shown) == 3
    for _, *arguments in shown:
        assert build_parser().parse_args(arguments).endpoints == Path("/tmp/demo.json")


@pytest.mark.parametrize("token", ["two\nlines", "two words", "\x00"])
def test_token_that_is_none(config: Path, tmp_path: Path, capsys: Said, token: str) -> None:
    """And is said nowhere: it may be one with a word too many."""
    (tmp_path / "token").write_text(token)
    call = ("check-installation", "--config", config, "--url", "http://127.0.0.1:1", "--token-file", tmp_path / "token")
    assert _status(*call) == 2
    said = capsys.readouterr().err
    assert "more than one word" in said
    assert "two" not in said.replace("two hours", "")


def test_form_without_a_value(config: Path, capsys: Said) -> None:
    call = ("check-installation", "--config", config, "--url", "http://127.0.0.1:1", "--token-endpoint", "http://a")
    assert _status(*call, "--form", "scope") == 2
    assert "--form: NAME=VALUE is wanted" in capsys.readouterr().err


def test_drain_on_a_port_that_there_is_not(config: Path, capsys: Said) -> None:
    assert _status("drain", "--config", config, "--listen", "127.0.0.1:99999") == 2
    assert "--listen 127.0.0.1:99999: host:port is wanted" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_are_none(tmp_path: Path, capsys: Said, content: str | None) -> None:
    authorities = tmp_path / "authorities.pem"
    if content is not None:
        authorities.write_text(content)
    command = ("export-siem", "s3://evidence", "--to", "https://siem.example.com", "--state", tmp_path / "s")
    assert _status(*command, "--ca-file", authorities) == 2
    assert "--ca-file: " in capsys.readouterr().err


@pytest.mark.parametrize("time", ["0001-01-01", "1969-12-31", "999999w"])
def test_time_before_there_was_any(config: Path, capsys: Said, time: str) -> None:
    assert _status("records", "list", "--config", config, "--since", time) == 2
    assert f"{time!r} is no time" in capsys.readouterr().err


def test_reload_leaves_a_stranger_alone(config: Path, tmp_path: Path, capsys: Said) -> None:
    """What a supervisor that was killed said of itself lies there still, and its number is somebody else's."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "run" / "state").mkdir(parents=True)
        (tmp_path / "run" / "lock").touch()
        (tmp_path / "run" / "state" / "supervisor.json").write_text(json.dumps({"pid": stranger.pid}))
        assert _status("reload", "--config", config) == 2
        assert "nothing runs in" in capsys.readouterr().err
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.5)
    finally:
        stranger.kill()
        stranger.wait()


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in {id(one): one for one in action.choices.values()}.values():
                yield from _parsers(inner)


@pytest.mark.parametrize("columns", [80, 100])
def test_help_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prose is wrapped; what is to be typed stays on its line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    parsers = list(_parsers(build_parser()))
    assert len(parsers) > 40
    for parser in parsers:
        told = parser.format_help()
        assert not [line for line in told.splitlines() if len(line) > columns], parser.prog
        typed = [line for line in (parser.description or "").splitlines() if line.startswith(" ")]
        assert set(typed) <= set(told.splitlines()), parser.prog


_AFFIDAVIT = (sys.executable, "-m", "ext_proc")


@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("asked", ["check-config", "--help", "verify --help", "--version"])
def test_output_that_has_no_room_is_said(config: Path, asked: str, *, is_buffered: bool) -> None:
    command = [*_AFFIDAVIT, *asked.split(), *(("--config", str(config)) if asked == "check-config" else ())]
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if is_buffered else "1"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment
        )
    assert done.returncode == 2
    assert "could not be written: No space left on device: make room" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_output_that_is_closed_is_said(config: Path) -> None:
    """The next file that is opened, of a log for example, would be standard output."""
    command = shlex.join([*_AFFIDAVIT, "check-config", "--config", str(config)])
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {command} >&-"], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[1:]) == (2, [])
    assert "standard output is closed" in done.stderr


_IN_COLOUR = """
import sys
from rich.console import Console
from ext_proc import cli

cli._run = lambda typed: Console().print("nothing was found") or 0
sys.exit(cli.main([]))
"""


@pytest.mark.parametrize("command", [(sys.executable, "-c", _IN_COLOUR), (*_AFFIDAVIT, "--help")])
def test_reader_that_has_left_is_no_finding(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_terminal_of_another_encoding_loses_nothing(tmp_path: Path) -> None:
    """And JSON stays JSON."""
    name = tmp_path / "Gr\xfc\xdfe \u65e5\u672c \U0001f600.yaml"
    name.write_text("pack: 7\n", encoding="utf-8")
    command = [*_AFFIDAVIT, "rules", "test", "--json", str(name)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert done.stdout.isascii() and json.loads(done.stdout)["packs"] == [str(name)]
    assert b"Traceback" not in done.stderr
