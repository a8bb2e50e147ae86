"""One suite for `ports.Policy`: the fake, and the real OPA with the default policy over its Unix socket.

Then what only the real one can show: that no change to a question makes it careless, and that it recovers.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import PolicyUnavailable
from ext_proc.model import ExchangeId
from ext_proc.policy.opa import OpaPolicy
from ext_proc.policy.question import question, read_asked
from tests.fakes.policy import MASK_ALL, ROOT, FakePolicy, RealOpa, a_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ext_proc.ports import Policy

DECISION_PATH = "/v1/data/inference/decision?provenance=true&strict-builtin-errors=true"


@pytest.fixture(scope="module")
def opa() -> Iterator[RealOpa]:
    with RealOpa.start() as running:
        yield running


@asynccontextmanager
async def asking(opa: RealOpa) -> AsyncIterator[OpaPolicy]:
    policy = OpaPolicy(opa.socket, "inference", "decision", opa.bundle, 5.0)
    await policy.start()
    try:
        yield policy
    finally:
        await policy.close()


@asynccontextmanager
async def either(kind: str, opa: RealOpa) -> AsyncIterator[Policy]:
    if kind == "fake":
        yield FakePolicy()
    else:
        async with asking(opa) as policy:
            yield policy


both = pytest.mark.parametrize("kind", ["fake", "real"])


@both
@pytest.mark.asyncio
async def test_analysts_may_call_the_demo_model(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        decision = await policy.decide(a_call(findings={"EMAIL": 2}))
        assert decision.allow
        assert decision.reasons == ()
        assert decision.redact_request == decision.redact_response == MASK_ALL
        assert decision.approval is None
        assert decision.record_payloads


@both
@pytest.mark.asyncio
async def test_what_was_asked_and_answered_can_be_kept(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        for call in (a_call(), a_call(groups=(), model="caf\ud800\u00e9")):
            decision = await policy.decide(call)
            kept = read_asked(decision.asked)
            assert kept.input == question(call)
            assert json.loads(kept.text) == kept.input
            assert (kept.result["allow"], tuple(kept.result["reasons"])) == (decision.allow, decision.reasons)
            assert "asked" not in repr(decision)


@both
@pytest.mark.asyncio
async def test_others_may_not(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        for call in (a_call(groups=()), a_call(groups=("guests",)), a_call(model="gpt-9")):
            decision = await policy.decide(call)
            assert not decision.allow
            assert decision.reasons == ("not_permitted",)


@both
@pytest.mark.asyncio
async def test_secrets_may_not(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        decision = await policy.decide(a_call(findings={"SECRET_GITHUB": 1}))
        assert not decision.allow
        assert decision.reasons == ("secret_in_prompt",)


@both
@pytest.mark.asyncio
async def test_which_policy_decided_is_told(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        first, second = await policy.decide(a_call()), await policy.decide(a_call())
        assert first.policy == second.policy
        assert first.policy.revision.startswith("sha256:")
        assert len(first.policy.digest) == 64
        assert first.decision_id
        assert first.decision_id != second.decision_id


@both
@pytest.mark.asyncio
async def test_many_at_once_do_not_mix(kind: str, opa: RealOpa) -> None:
    async with either(kind, opa) as policy:
        calls = [a_call(groups=("analysts",) if n % 2 else ("guests",)) for n in range(200)]
        decisions = await asyncio.gather(*map(policy.decide, calls))
        assert [decision.allow for decision in decisions] == [bool(n % 2) for n in range(200)]
        assert len({decision.decision_id for decision in decisions}) == 200


@pytest.mark.asyncio
async def test_fake_can_fail_like_the_real_one() -> None:
    policy = FakePolicy()
    policy.deny("not_permitted")
    assert not (await policy.decide(a_call())).allow
    policy.fail()
    with pytest.raises(PolicyUnavailable):
        await policy.decide(a_call())


# From here on: the real one only.


@pytest.mark.asyncio
async def test_default_policy(opa: RealOpa) -> None:
    async with asking(opa) as policy:
        for operation in ("chat", "embedding", "messages"):
            assert (await policy.decide(a_call(operation=operation))).allow
        assert (await policy.decide(a_call(model=None, operation="models", parameters={}))).allow
        restricted = await policy.decide(a_call(model="demo-restricted"))
        assert restricted.allow
        assert restricted.approval is not None
        assert restricted.approval.groups == ("approvers",)
        assert restricted.approval.within_seconds >= 300, "a person reads, thinks, and writes why"
        assert (await policy.decide(a_call(tags=("high-risk",)))).approval is not None
        for call, code in (
            (a_call(parameters={"media_count": 1}), "media_not_inspectable"),
            (a_call(parameters={"max_tokens": 100_000}), "too_many_tokens_asked"),
            (replace(a_call(), body_bytes=10**9), "body_too_large"),
            (replace(a_call(), exchange_id=ExchangeId("")), "question_malformed"),
            (a_call(model="*"), "not_permitted"),
        ):
            decision = await policy.decide(call)
            assert (decision.allow, decision.reasons) == (False, (code,))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, name)
        if isinstance(inner, dict | list):
            yield from _paths(inner, (*path, name))


def _changed(path: tuple[Any, ...], **change: Any) -> dict[str, Any]:
    whole = copy.deepcopy(_ordinary())
    target: Any = whole
    for name in path[:-1]:
        target = target[name]
    if "value" in change:
        target[path[-1]] = change["value"]
    else:
        del target[path[-1]]
    return whole


def _ordinary() -> dict[str, Any]:
    call = a_call(findings={"EMAIL": 1}, parameters={"max_tokens": 10}, tags=("plain",))
    return question(call)


# May be null, and stay allowed: nothing is known, and the default policy does not ask.
MAY_BE_NULL = {
    ("identity", "client"),
    ("identity", "tenant"),
    ("request", "parameters", "max_tokens"),
    ("request", "parameters", "message_count"),
    ("request", "parameters", "tool_count"),
}
# May be missing: what a caller may leave out, what was not found, a tag that nobody asks about.
MAY_BE_MISSING = {*MAY_BE_NULL, ("findings", "EMAIL"), ("connection", "tags", 0)} - {
    ("identity", "client"),
    ("identity", "tenant"),
}


@pytest.mark.parametrize("path", list(_paths(_ordinary())), ids=lambda path: ".".join(map(str, path)))
def test_no_damaged_question_is_allowed(path: tuple[Any, ...], opa: RealOpa) -> None:
    def allows(document: Any) -> bool:
        status, body = opa.request("POST", DECISION_PATH, json.dumps({"input": document}).encode())
        answer = json.loads(body)
        return status == 200 and answer.get("result", {}).get("allow") is not False

    assert allows(_ordinary())
    if path not in MAY_BE_MISSING:
        assert not allows(_changed(path))
    if path not in MAY_BE_NULL:
        assert not allows(_changed(path, value=None))
    old: Any = _ordinary()
    for name in path:
        old = old[name]
    for value in ([["x"]], {"x": {}}, *(() if _is_open(path) else (_other(old),))):
        assert not allows(_changed(path, value=value))


def _is_open(path: tuple[Any, ...]) -> bool:
    """Parameters may be of any scalar type: what is wrong with one is for the model to say."""
    return path[:2] == ("request", "parameters") and path[2:] not in ((), ("max_tokens",), ("media_count",))


def _other(value: Any) -> Any:
    """Another scalar type."""
    return "true" if isinstance(value, bool | int | float) else 7


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input": null}', b'{"input": []}', b'{"input": "x"}', b"{"])
def test_no_question_is_not_allowed(body: bytes, opa: RealOpa) -> None:
    _, answer = opa.request("POST", DECISION_PATH, body)
    assert json.loads(answer).get("result", {"allow": False})["allow"] is False


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/v1/data", 401),
        ("GET", "/v1/data/inference/models", 401),
        ("POST", "/v1/data/inference", 401),
        ("POST", "/v1/query", 401),
        ("GET", "/v1/policies", 401),
        ("PUT", "/v1/policies/evil", 401),
        ("PATCH", "/v1/data/inference/models", 401),
        ("DELETE", "/v1/policies/inference", 401),
        ("GET", "/v1/config", 401),
        ("GET", "/metrics", 401),
        ("POST", "/v1/data/inference/decision/../../../v1/query", 401),
    ],
)
def test_nothing_else_can_be_asked_of_opa(method: str, path: str, status: int, opa: RealOpa) -> None:
    said, _ = opa.request(method, path, b"{}" if method != "GET" else None)
    # OPA answers a path with `..` with where it would lead; that is asked, and refused, like any other.
    assert said == status or (".." in path and said in (301, 307, 308))


def _with_sources(tmp_path: Path, name: str, text: str) -> Path:
    sources = tmp_path / "opa"
    shutil.copytree(ROOT / "opa", sources)
    file = sources / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return sources


@pytest.mark.asyncio
async def test_a_further_concern_is_a_further_folder(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "policy-input.md").read_text()
    example = page.partition("```rego\n")[2].partition("```")[0]
    sources = _with_sources(tmp_path, "inference/concerns/hours/hours.rego", example)
    with RealOpa.start(sources) as running:
        async with asking(running) as policy:
            assert (await policy.decide(a_call())).allow
            late = await policy.decide(replace(a_call(), received_at=a_call().received_at.replace(hour=23)))
            assert (late.allow, late.reasons) == (False, ("outside_hours",))


@pytest.mark.asyncio
async def test_an_error_in_a_built_in_is_unavailable(tmp_path: Path) -> None:
    broken = (
        "package inference.concerns.broken\n\ndefault allow := true\n\nreasons contains x if x := 1 / input.time.hour\n"
    )
    with RealOpa.start(_with_sources(tmp_path, "inference/concerns/broken/broken.rego", broken)) as running:
        async with asking(running) as policy:
            midnight = replace(a_call(), received_at=a_call().received_at.replace(hour=0))
            with pytest.raises(PolicyUnavailable, match="status_500"):
                await policy.decide(midnight)


@pytest.mark.asyncio
async def test_opa_stopped_and_started_again() -> None:
    with RealOpa.start() as running:
        async with asking(running) as policy:
            assert (await policy.decide(a_call())).allow
            running.process.kill()
            running.process.wait()
            with pytest.raises(PolicyUnavailable):
                await policy.decide(a_call())
            assert not await policy.is_ready()
            running.socket.unlink(missing_ok=True)
            with RealOpa.start() as again:
                again.socket.rename(running.socket)
                assert (await policy.decide(a_call())).allow
                assert await policy.is_ready()
