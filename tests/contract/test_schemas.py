"""The published schemas against the code: whatever a real run writes is valid, and what is not of the form is not."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ext_proc.audit import kinds
from tests.e2e.conftest import CHAT, PLANTED, Gateway, operations, running_gateway
from tests.e2e.upstream import Upstream, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "docs" / "schemas" / "leaf"
EXPECTED = {
    "log.open", "log.close", "log.recovered", "heartbeat", "inference.intent", "inference.outcome", "config.changed",
    "epoch.born", "epoch.ended", "access.shipped", "digest.made", "worm.canary", "reconcile.result", "key.rotated",
    "erasure.requested", "erasure.completed", "erasure.refused", "legalhold.placed", "legalhold.released", "access.read",
}  # fmt: skip
"""What the run below is sure to write; the rest needs damage or the end of a day."""


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((PUBLISHED / f"{kind}.json").read_bytes()))


def wrong(leaf: dict[str, Any], kind: str | None = None) -> list[str]:
    """What is not valid in a leaf, in words."""
    kind = kind or leaf["kind"]
    return [f"{kind}: {'/'.join(map(str, one.path))}: {one.message}" for one in validator(kind).iter_errors(leaf)]


def command(gateway: Gateway, *arguments: str, status: int = 0) -> str:
    """One of ours, on the running gateway."""
    run = [sys.executable, "-m", "ext_proc", *arguments, "--config", str(gateway.stack.config)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Every leaf of a gateway's life in which much happens."""
    folder = tmp_path_factory.mktemp("life")
    answers = {f"/v1/shape{name}": answer for name, answer in shapes(f"write to {PLANTED} now").items()}
    with running_gateway(folder, Upstream(answers), workers=1, operations=operations(CHAT, *answers)) as made:
        live(made, sorted(answers))
        for name in ("envoy", "supervisor"):
            made.stack.programs[name].stop()
        yield made.leaves()


def live(gateway: Gateway, paths: list[str]) -> None:
    stack = gateway.stack
    stranger = stack.token("nobody-knows", [])
    told = {
        "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {}}}],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert gateway.chat(f"my address is {PLANTED}", **told).status == 200
    for path in paths:
        gateway.chat(f"and {PLANTED}", path=path)
    for reply in (
        gateway.chat(token=stranger),
        gateway.chat(token="no-token"),
        gateway.send("POST", CHAT, b"{", gateway.analyst),
        gateway.send("POST", "/v1/nothing-here", b"{}", gateway.analyst),
        gateway.send("GET", CHAT, b"", gateway.analyst),
    ):
        assert reply.status >= 400
    os.kill(stack.pids()["worker-0"], signal.SIGKILL)  # its log is recovered
    gateway.wait_for(lambda: gateway.chat("again").status == 200, "a worker again")
    reply = gateway.chat("to be forgotten", token=stack.token("forgotten", ["analysts"]))
    exchange = reply.header("x-affidavit-exchange") or ""
    gateway.records(exchange, "inference.intent", "inference.outcome")
    who, order = ("--subject", "forgotten"), ("--reason", "ticket 1", "--by", "dpo")
    command(gateway, "records", "show", exchange, "--payloads", "--json")
    command(gateway, "legal-hold", "place", *who, "--name", "case-1", "--until", "2099-01-01T00:00:00Z", *order)
    command(gateway, "erase", *who, *order, "--yes", status=1)
    command(gateway, "legal-hold", "release", *who, "--name", "case-1", *order)
    command(gateway, "erase", *who, *order, "--yes")
    command(gateway, "canary")
    whole = yaml.safe_load(stack.config.read_text())
    whole["connections"].append({"name": "second", "path_prefix": "/second/", "upstream": {"url": "http://127.0.0.1:1"},
                                 "operations": [{"path": "/second/chat", "protocol": "openai.chat"}]})  # fmt: skip
    stack.config.write_text(yaml.safe_dump(whole))
    command(gateway, "reload")
    new_key = stack.folder / "keys" / "next-log-key"
    command_without_config("keys", "create", str(new_key))
    whole["audit"]["signing"] = {"file": str(new_key)}
    (stack.folder / "next.yaml").write_text(yaml.safe_dump(whole))
    command(gateway, "keys", "rotate", "--new-config", str(stack.folder / "next.yaml"))
    gateway.wait_for(
        lambda: "access.shipped" in {one["kind"] for one in gateway.leaves()}, "Envoy's log is shipped", 90
    )
    time.sleep(1)
    run = [sys.executable, "-m", "ext_proc", "reconcile", "--json", "--config", str(stack.config)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {0, 1}, done.stderr
    gateway.wait_for(lambda: {one["kind"] for one in gateway.leaves()} >= EXPECTED - {"log.close"}, "everything", 90)


def command_without_config(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ext_proc", *arguments], check=True, timeout=60, capture_output=True)


def test_every_leaf_of_a_real_run_is_valid(leaves: list[dict[str, Any]]):
    seen = {leaf["kind"] for leaf in leaves}
    assert seen >= EXPECTED
    assert [problem for leaf in leaves for problem in wrong(leaf)] == []
    outcomes = {leaf["outcome"]["status"] for leaf in leaves if leaf["kind"] == "inference.outcome"}
    assert outcomes >= {"completed", "error", "denied", "refused"}


def test_every_schema_is_closed(leaves: list[dict[str, Any]]):
    """A field more, a field less, or another type, at any depth: not valid."""
    for leaf in {leaf["kind"]: leaf for leaf in leaves}.values():
        for changed, what in changes(leaf):
            assert wrong(changed, leaf["kind"]) != [], (leaf["kind"], what)


def changes(leaf: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The leaf with one thing wrong."""
    yield {**leaf, "prompt": "in clear"}, "a field more"
    for name in ("schema", "kind", "origin", "sequence", "at"):
        yield {key: value for key, value in leaf.items() if key != name}, f"without {name}"
    for name, value in leaf.items():
        yield {**leaf, name: 0.5}, f"{name}: a fraction"
        if isinstance(value, dict) and name != "counts":
            inner = copy.deepcopy(leaf)
            inner[name]["Prompt text"] = {}
            yield inner, f"{name}: a field more"


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_published(kind: str):
    told = json.loads((PUBLISHED / f"{kind}.json").read_bytes())
    Draft202012Validator.check_schema(told)
    assert told == kinds.schema_of(kind)
    assert told["additionalProperties"] is False
    assert [name for name, part in objects(told) if "additionalProperties" not in part] == []


def objects(part: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object that a schema describes."""
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield name, part
        for key, inner in part.items():
            yield from objects(inner, f"{name}/{key}")
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from objects(inner, f"{name}/{number}")


def test_no_schema_for_a_kind_that_is_not():
    assert {path.stem for path in PUBLISHED.iterdir()} == set(kinds.KINDS)
