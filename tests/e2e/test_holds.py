"""Calls that wait for people, through real Envoy, real OPA and a real store: what passes, what is refused, what tells."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import openai
import pytest
from jsonschema import Draft202012Validator

from ext_proc.app import registry
from ext_proc.app.approval.approvals import Approvals, Objection
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.audit import kinds
from ext_proc.config import load
from ext_proc.model import HoldState, Identity
from tests.e2e.conftest import CHAT, PLANTED, Gateway, running_gateway
from tests.e2e.upstream import Upstream, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from ext_proc.approval.hold import Hold
    from tests.e2e.harness import Reply

RESTRICTED: Final = "demo-restricted"
WHY: Final = "case 2026-17"
ANSWER: Final = plain(
    json.dumps({"choices": [{"message": {"role": "assistant", "content": f"ask {PLANTED}"}}]}).encode()
)


@dataclass
class Desk:
    """The people at the desk of a running gateway, each a person that the issuer knows."""

    gateway: Gateway
    approvals: Approvals
    pool: ThreadPoolExecutor

    def who(self, subject: str, *groups: str, tenant: str | None = None) -> Identity:
        """As their token says."""
        return Identity(self.gateway.stack.issuer, subject, "oidc", groups, tenant=tenant)

    @property
    def bob(self) -> Identity:
        return self.who("bob", "approvers")

    def asked(self, text: str, model: str = RESTRICTED, **headers: str) -> Future[Reply]:
        """Ada calls, in a thread: it may take as long as people take."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.pool.submit(
            self.gateway.send, "POST", CHAT, json.dumps(body).encode(), self.gateway.analyst, **headers
        )

    def held(self, text: str, state: HoldState = HoldState.PENDING) -> Hold:
        """The hold of the call with this text, once it is there."""

        def found() -> Hold | None:
            for hold in self.approvals.mine(self.who("ada", "analysts"), 100):
                view = self.approvals.read(self.bob, hold.hold_id, "console")
                if hold.state is state and view.shown is not None and text in view.shown["text"]:
                    return hold
            return None

        hold: Hold = self.gateway.wait_for(found, f"no {state} hold of {text!r}")
        return hold

    def yes(self, hold: Hold, who: Identity | None = None, why: str = WHY) -> None:
        """Approve."""
        self.approvals.resolve(who or self.bob, hold.hold_id, "console", why, is_yes=True)

    def state(self, hold: Hold) -> HoldState:
        """How it stands."""
        return self.approvals.stands(self.bob, hold.hold_id).state

    def leaves(self, kind: str, hold: Hold) -> list[dict[str, Any]]:
        """Its records of one kind that are in the bucket."""
        every = [leaf for leaf in self.gateway.leaves() if leaf["kind"] == kind]
        return [one for one in every if one.get("hold_id", one.get("approval", {}).get("hold_id")) == hold.hold_id]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    upstream = Upstream({CHAT: (ANSWER,)})
    folder = tmp_path_factory.mktemp("holds")
    with running_gateway(folder, upstream, hold_seconds=30) as gateway:
        config, digest = load(gateway.stack.config)
        keyring = registry.keyring(config)
        with Journal(config, digest, "command", keyring) as journal, ThreadPoolExecutor(32) as pool:
            yield Desk(gateway, Approvals(keyring, registry.register_of_holds(config), journal, clock), pool)


def sent(desk: Desk) -> int:
    """How many calls reached the upstream."""
    assert desk.gateway.upstream is not None
    return len(desk.gateway.upstream.received)


def test_waits_until_somebody_agrees(desk: Desk) -> None:
    """The caller only waits; the three records name each other; what is shown is masked."""
    before = sent(desk)
    reply = desk.asked(f"first {PLANTED}")
    hold = desk.held("first")
    assert sent(desk) == before, "nothing goes on before"
    view = desk.approvals.read(desk.bob, hold.hold_id, "console")
    assert view.shown is not None
    assert PLANTED not in json.dumps(view.shown)
    assert "[EMAIL]" in view.shown["text"]
    assert (view.shown["subject"], view.objection, view.clear) == ("ada", None, None)
    desk.yes(hold)
    done = reply.result(20)
    assert done.status == 200
    assert done.json()["choices"][0]["message"]["content"] == "ask [EMAIL]"
    assert sent(desk) == before + 1
    desk.gateway.wait_for(lambda: desk.state(hold) is HoldState.USED, "not used")

    exchange_id = str(done.header("x-affidavit-exchange"))
    [(_, requested), (_, intent)] = desk.gateway.records(exchange_id, "approval.requested", "inference.intent")
    [resolved] = desk.gateway.wait_for(lambda: desk.leaves("approval.resolved", hold), "no record of the yes")
    [said] = intent["approval"]["resolutions"]
    assert said["record"] == {"origin": resolved["origin"], "sequence": resolved["sequence"]}
    assert said["person_ref"] == resolved["actor"]["subject_ref"]
    assert requested["approval"]["hold_id"] == intent["approval"]["hold_id"] == resolved["hold_id"]
    assert requested["approval"]["binding_sha256"] == intent["approval"]["binding_sha256"]
    assert desk.leaves("approval.viewed", hold)
    for leaf in (requested, intent, resolved, *desk.leaves("approval.viewed", hold)):
        Draft202012Validator(kinds.schema_of(leaf["kind"])).validate(leaf)
    key = next(key for key, leaf in desk.gateway.read() if leaf == resolved)
    assert desk.gateway.payloads((key, resolved)) == {"approval.justification": WHY.encode()}


def test_denied(desk: Desk) -> None:
    before = sent(desk)
    reply = desk.asked("second")
    hold = desk.held("second")
    desk.approvals.resolve(desk.bob, hold.hold_id, "api", "not for this", is_yes=False)
    done = reply.result(20)
    assert (done.status, done.json()["error"]["code"]) == (403, "approval_denied")
    assert sent(desk) == before
    again = desk.asked("second").result(20)
    assert (again.status, again.json()["error"]["code"]) == (403, "approval_denied"), "a denial is not asked again"
    assert desk.gateway.outcome(done)["approval"]["state"] == "denied"


def test_nobody_answers_in_time(desk: Desk) -> None:
    """The policy gave them two seconds. Sent again, people are asked anew."""
    done = desk.asked("third", "demo-brief").result(20)
    assert (done.status, done.json()["error"]["code"]) == (403, "approval_expired")
    assert desk.gateway.outcome(done)["outcome"]["status"] == "denied"
    first = desk.gateway.outcome(done)["approval"]["hold_id"]
    again = desk.asked("third", "demo-brief").result(20)
    assert desk.gateway.outcome(again)["approval"]["hold_id"] != first


@pytest.mark.parametrize("prefer", ["respond-async", "wait=1"])
def test_told_to_come_back_and_let_through_once(desk: Desk, prefer: str) -> None:
    text, before = f"fourth {prefer}", sent(desk)
    told = desk.asked(text, prefer=prefer).result(20)
    assert told.status == 202
    assert told.header("retry-after") == "5"
    said = told.json()
    assert (said["object"], said["status"]) == ("affidavit.hold", "pending")
    assert desk.gateway.outcome(told)["outcome"]["status"] == "held"
    again = desk.asked(text, prefer=prefer).result(20)
    assert again.json()["id"] == said["id"], "the same call finds its hold"
    hold = desk.held(text)
    assert hold.hold_id == said["id"]
    desk.yes(hold)
    assert desk.asked(text, prefer=prefer).result(20).status == 200
    third = desk.asked(text, prefer=prefer).result(20)
    assert (third.status, third.json()["id"] != said["id"]) == (202, True), "once is once"
    assert sent(desk) == before + 1


def test_caller_leaves(desk: Desk) -> None:
    """The hold is withdrawn; sent again, it goes on where it was."""
    body = json.dumps({"model": RESTRICTED, "messages": [{"role": "user", "content": "fifth"}]})
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {desk.gateway.analyst}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", desk.gateway.stack.ports["http"])) as caller:
        caller.sendall((head + body).encode())
        hold = desk.held("fifth")
    desk.gateway.wait_for(lambda: desk.state(hold) is HoldState.WITHDRAWN, "not withdrawn")
    with pytest.raises(Objection, match="withdrawn"):
        desk.yes(hold)
    assert desk.gateway.wait_for(lambda: desk.leaves("approval.refused", hold), "no record")[0]["code"] == "withdrawn"
    again = desk.gateway.send("POST", CHAT, body.encode(), desk.gateway.analyst, prefer="respond-async")
    assert (again.status, again.json()["id"]) == (202, hold.hold_id)
    assert desk.state(hold) is HoldState.PENDING


@pytest.mark.parametrize(
    ("who", "why", "reason"),
    [
        (("ada", ("analysts", "approvers", "administrators")), WHY, "own_call"),
        (("carol", ("analysts",)), WHY, "not_an_approver"),
        (("carol", ("administrators",)), WHY, "not_an_approver"),
        (("carol", ("approvers",), "other-tenant"), WHY, "no_such_hold"),
        (("carol", ("approvers",)), " ", "justification_required"),
        (("carol", ("approvers",)), "x" * 2001, "justification_required"),
    ],
)
def test_who_may_not_approve(desk: Desk, who: Any, why: str, reason: str) -> None:
    text = f"sixth {hashlib.sha256(repr((who, why)).encode()).hexdigest()}"
    reply = desk.asked(text, prefer="respond-async").result(20)
    hold = desk.held(text)
    subject, groups, *tenant = who
    with pytest.raises(Objection, match=reason):
        desk.yes(hold, desk.who(subject, *groups, tenant=tenant[0] if tenant else None), why)
    assert desk.state(hold) is HoldState.PENDING
    assert reply.status == 202
    [refused] = desk.gateway.wait_for(lambda: desk.leaves("approval.refused", hold), "no record")
    assert refused["code"] == reason


def test_two_people_are_two_people(desk: Desk) -> None:
    reply = desk.asked("seventh", "demo-critical")
    hold = desk.held("seventh")
    desk.yes(hold)
    with pytest.raises(Objection, match="already_said"):
        desk.yes(hold)
    with pytest.raises(Objection, match="already_said"):
        desk.yes(hold, desk.who("bob", "approvers", "more"))
    assert not reply.done()
    desk.yes(hold, desk.who("carol", "approvers"))
    done = reply.result(20)
    assert done.status == 200
    [(_, intent)] = desk.gateway.records(str(done.header("x-affidavit-exchange")), "inference.intent")
    assert len({one["person_ref"] for one in intent["approval"]["resolutions"]}) == 2


def test_two_at_once_one_resolution(desk: Desk) -> None:
    """Many approve and deny at the same moment: one counts, each of the others is on record as not counted."""
    desk.asked("eighth", prefer="respond-async").result(20)
    hold = desk.held("eighth")
    barrier = threading.Barrier(8)

    def speak(number: int) -> str:
        barrier.wait(10)
        try:
            who = desk.who(f"approver-{number}", "approvers")
            desk.approvals.resolve(who, hold.hold_id, "api", WHY, is_yes=number % 2 == 0)
        except Objection as objection:
            return objection.reason
        return "counted"

    said = [one.result(30) for one in [desk.pool.submit(speak, number) for number in range(8)]]
    assert said.count("counted") == 1
    assert set(said) <= {"counted", "already_approved", "already_denied"}
    desk.gateway.wait_for(lambda: len(desk.leaves("approval.refused", hold)) == 7, "not all on record")


BODY: Final[dict[str, Any]] = {"model": RESTRICTED, "messages": [{"role": "user", "content": "ninth"}], "seed": 7}
OTHERS: Final = {
    "one byte more": json.dumps(BODY) + " ",
    "a number": json.dumps({**BODY, "seed": 8}),
    "a letter's case": json.dumps(BODY).replace("ninth", "Ninth"),
    "another model": json.dumps({**BODY, "model": "demo-critical"}),
    "an escape": json.dumps(BODY).replace("ninth", "nint\\u0068"),
    "the order": json.dumps(dict(reversed(BODY.items()))),
}


@pytest.mark.parametrize("how", OTHERS)
def test_bytes_that_changed_are_not_approved(desk: Desk, how: str) -> None:
    before, token = sent(desk), desk.gateway.analyst
    text = f"ninth {how}"
    body = json.dumps(BODY).replace("ninth", text).encode()
    first = desk.gateway.send("POST", CHAT, body, token, prefer="respond-async")
    hold = desk.held(text)
    desk.yes(hold)
    other = (
        OTHERS[how]
        .replace("ninth", text)
        .replace("Ninth", text.capitalize())
        .replace("nint\\u0068", f"\\u006e{text[1:]}")
    )
    assert other.encode() != body
    changed = desk.gateway.send("POST", CHAT, other.encode(), token, prefer="respond-async")
    assert (first.status, changed.status) == (202, 202)
    assert changed.json()["id"] != hold.hold_id
    assert sent(desk) == before


def test_others_do_not_use_it(desk: Desk) -> None:
    """The same bytes of another caller, or by another path, are another hold."""
    before, body = sent(desk), json.dumps(BODY).replace("ninth", "tenth").encode()
    desk.gateway.send("POST", CHAT, body, desk.gateway.analyst, prefer="respond-async")
    desk.yes(desk.held("tenth"))
    eve = desk.gateway.stack.token("eve", ["analysts"])
    assert desk.gateway.send("POST", CHAT, body, eve, prefer="respond-async").status == 202
    assert (
        desk.gateway.send("POST", f"{CHAT}?api-version=1", body, desk.gateway.analyst, prefer="respond-async").status
        == 202
    )
    assert sent(desk) == before
    assert desk.gateway.send("POST", CHAT, body, desk.gateway.analyst, prefer="respond-async").status == 200


def test_one_approval_and_many_callers(desk: Desk) -> None:
    """Ten identical requests wait for one approval: exactly one reaches the upstream."""
    before = sent(desk)
    replies = [desk.asked("eleventh") for _ in range(10)]
    hold = desk.held("eleventh")
    desk.gateway.wait_for(lambda: len(desk.approvals.stands(desk.bob, hold.hold_id).waiting) == 10, "not all wait")
    desk.yes(hold)
    done = [one.result(30) for one in replies]
    assert sorted(one.status for one in done) == [200] + [409] * 9
    assert {one.json()["error"]["code"] for one in done if one.status == 409} == {"approval_used"}
    assert sent(desk) == before + 1


def test_worker_killed_while_it_holds(desk: Desk) -> None:
    """Both workers die. The holds are abandoned; sent again, they go on; nothing passes twice."""
    before = sent(desk)
    replies = [desk.asked(f"twelfth {number}") for number in range(6)]
    held = [desk.held(f"twelfth {number}") for number in range(6)]
    for name, pid in desk.gateway.stack.pids().items():
        if name.startswith("worker"):
            os.kill(pid, signal.SIGKILL)
    assert all(reply.result(30).status >= 500 for reply in replies)
    for hold in held:
        desk.gateway.wait_for(lambda hold=hold: desk.state(hold) is HoldState.ABANDONED, "not abandoned", 60)
    with pytest.raises(Objection, match="abandoned"):
        desk.yes(held[0])

    def again() -> Future[Reply] | None:
        reply = desk.asked("twelfth 0", prefer="respond-async").result(30)
        return desk.asked("twelfth 0") if reply.status == 202 else None

    reply = desk.gateway.wait_for(again, "the workers did not come back", 60)
    hold = desk.held("twelfth 0")
    assert hold.hold_id == held[0].hold_id, "what waited goes on"
    desk.yes(hold)
    assert reply.result(30).status == 200
    assert sent(desk) == before + 1


def test_openai_client_waits(desk: Desk) -> None:
    client = openai.OpenAI(base_url=f"{desk.gateway.stack.gateway}/v1", api_key=desk.gateway.analyst, max_retries=0)
    messages: Any = [{"role": "user", "content": "thirteenth"}]
    waiting = desk.pool.submit(lambda: client.chat.completions.create(model=RESTRICTED, messages=messages))
    desk.yes(desk.held("thirteenth"))
    assert waiting.result(30).choices[0].message.content == "ask [EMAIL]"


def test_openai_client_loses_patience_and_gets_its_answer_once(desk: Desk) -> None:
    """Its first attempts time out; what it re-sends goes on where the first one was."""
    before = sent(desk)
    client = openai.OpenAI(
        base_url=f"{desk.gateway.stack.gateway}/v1", api_key=desk.gateway.analyst, max_retries=8, timeout=5.0
    )
    messages: Any = [{"role": "user", "content": "fourteenth"}]
    waiting = desk.pool.submit(lambda: client.chat.completions.create(model=RESTRICTED, messages=messages))
    hold = desk.held("fourteenth")
    desk.gateway.wait_for(lambda: desk.state(hold) is HoldState.WITHDRAWN, "the first attempt did not time out")
    hold = desk.held("fourteenth")
    desk.yes(hold)
    assert waiting.result(60).choices[0].message.content == "ask [EMAIL]"
    assert sent(desk) == before + 1


def test_openai_client_that_streams_is_told_that_it_is_held(desk: Desk) -> None:
    """It reads a 202 as a stream, and in JSON it would find no event: an answer of nothing, and no error."""
    client = openai.OpenAI(base_url=f"{desk.gateway.stack.gateway}/v1", api_key=desk.gateway.analyst, max_retries=0)
    messages: Any = [{"role": "user", "content": "fifteenth"}]
    with pytest.raises(openai.APIError, match="waits for approval") as told:
        list(client.chat.completions.create(model=RESTRICTED, messages=messages, stream=True))
    assert told.value.code == "approval_pending"
    assert desk.state(desk.held("fifteenth")) is HoldState.PENDING


def test_the_auditor_finds_nothing(desk: Desk) -> None:
    """After all of this: every record is as it was written, and every body is named by one."""
    stack = desk.gateway.stack
    s3 = stack.s3
    reply = desk.asked("the last one")
    desk.yes(desk.held("the last one"))
    desk.gateway.outcome(reply.result(30))
    env = {
        **os.environ, "AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key, "AWS_REGION": s3.region,
    }  # fmt: skip
    command = [sys.executable, "-m", "ext_proc", "verify", f"s3://{s3.bucket}/", "--policy", str(stack.auditor_policy)]

    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, timeout=120, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["findings"]) == (0, []), told["findings"][:5]
