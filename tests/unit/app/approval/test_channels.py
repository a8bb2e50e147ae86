"""Channels, from the configuration on: what is refused early, a test message on each, and leaves that are valid."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ext_proc import cli
from ext_proc.app import registry
from ext_proc.app.approval import channels
from ext_proc.app.approval.approvals import Approvals
from ext_proc.app.approval.channels import HookDesk
from ext_proc.app.approval.holds import SHOWN, scope_of
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.approval.channels.answers import Refused
from ext_proc.approval.channels.incoming import Named, Said
from ext_proc.approval.channels.message import Event
from ext_proc.audit.vault import Sealer
from ext_proc.config import Config, load
from ext_proc.errors import ConfigError
from ext_proc.model import HoldId, Identity
from tests.fakes.answering import ISSUER
from tests.fakes.asked_holds import FACTS, Asked, Clock
from tests.fakes.configured import a_config
from tests.fakes.holds import a_hold
from tests.fakes.mail_server import MailServer
from tests.fakes.receivers import OLDER, SECRET, FakeSlack, Receiver, secret_file
from tests.unit.app.test_logs import leaves_of

SCHEMAS = Path(__file__).resolve().parents[4] / "docs" / "schemas" / "leaf"


class House:
    """A configuration with a channel of each kind; ``change`` one field of one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        a_config(folder)
        self.path = folder / "config.yaml"
        self.whole = yaml.safe_load(self.path.read_text())
        self.whole["identity"]["issuers"][0]["issuer"] = ISSUER
        self.whole["console"] = {"public_url": "https://desk.example.com"}
        secret_file(folder, SECRET, name="out")
        secret_file(folder, OLDER, name="in")
        for name, text in {
            "token": "xoxb-test-token", "signing": "slack-signing-secret-0123", "password": "mail-password",
            "people": json.dumps({"U1": {"issuer": ISSUER, "subject": "bob", "tenant": None, "groups": ["approvers"]}}),
        }.items():  # fmt: skip
            (folder / name).write_text(text)
        answers = {"secret_file": self.file("in"), "may_act_for": ["approvers"]}
        self.channels: dict[str, dict[str, Any]] = {
            "program": {
                "kind": "webhook", "name": "program", "url": "https://hooks.example.com/x",
                "secret_file": self.file("out"), "answers": answers,
            },
            "team": {
                "kind": "slack", "name": "team", "channel": "C0123456789", "token_file": self.file("token"),
                "signing_secret_file": self.file("signing"), "people_file": self.file("people"), "include": "masked",
            },
            "letters": {
                "kind": "email", "name": "letters", "host": "mail.example.com", "sender": "desk@example.com",
                "to": ["bob@example.com"], "groups": ["approvers"], "tenants": [None],
            },
        }  # fmt: skip

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def written(self, **changed: dict[str, Any]) -> Config:
        told = copy.deepcopy(self.channels)
        for name, fields in changed.items():
            told[name] |= fields
        self.path.write_text(yaml.safe_dump({**self.whole, "approvals": {"channels": list(told.values())}}))
        return load(self.path)[0]

    def refusal(self, **changed: dict[str, Any]) -> str:
        with pytest.raises(ConfigError) as refused:
            self.written(**changed)
        return refused.value.detail


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


def test_one_of_each(house):
    program, team, letters = channels.posts(house.written(), clock)
    assert [post.channel.kind for post in (program, team, letters)] == ["webhook", "slack", "email"]
    assert [post.is_for_people for post in (program, team, letters)] == [False, True, True]
    assert [post.has_text for post in (program, team, letters)] == [False, True, False]
    assert program.audience.events == {Event.PENDING, Event.RESOLVED}
    assert letters.audience.events == {Event.PENDING}
    assert letters.audience.groups == {"approvers"} and letters.audience.tenants == {None}
    assert program.audience.groups is None and program.audience.tenants is None


@pytest.mark.parametrize(
    ("where", "fields", "said"),
    [
        ("program", {"url": "http://hooks.example.com"}, "https is wanted"),
        ("program", {"url": "https://a:b@hooks.example.com"}, "no user"),
        ("program", {"url": "https://hooks.example.com/x?sig=abc"}, "belongs in url_file"),
        ("program", {"url": None}, "exactly one"),
        ("program", {"url_file": "/somewhere"}, "exactly one"),
        ("program", {"urll": "x"}, "did you mean url?"),
        ("team", {"token_fil": "x"}, "did you mean token_file?"),
        ("program", {"events": []}, "events"),
        ("program", {"name": "team"}, "two have the name team"),
        ("program", {"kind": "pager"}, "kind"),
        ("team", {"channel": "#general"}, "a channel's id at Slack"),
        ("letters", {"sender": "Desk <desk@example.com>"}, "an address without a name"),
        ("letters", {"to": ["bob@example.com\nBcc: x@y.z"]}, "an address without a name"),
        ("letters", {"tls": "none"}, "loopback only"),
        ("letters", {"username": "desk"}, "both or none"),
        ("letters", {"per_minute": 0}, "per_minute"),
    ],
)
def test_refused_when_it_is_read(where, fields, said, house):
    assert said in house.refusal(**{where: fields})


def test_an_address_with_a_credential_is_in_a_file(house):
    address = "https://hooks.example.com/workflows/1?sp=%2Ftriggers&sig=a-b_c"
    (house.folder / "address").write_text(f"{address}\n")
    config = house.written(program={"url": None, "url_file": house.file("address")})
    [program, *_] = channels.posts(config, clock)
    assert program.channel._way._url == address


@pytest.mark.parametrize(
    "text", [None, "", "http://hooks.example.com?sig=abc", "https://a:abc@hooks.example.com", "abc"]
)
def test_an_address_in_a_file_is_held_to_the_same(text, house):
    (house.folder / "address").write_text(text) if text is not None else None
    config = house.written(program={"url": None, "url_file": house.file("address")})
    with pytest.raises(ConfigError) as refused:
        channels.posts(config, clock)
    assert "program" in refused.value.detail and "abc" not in refused.value.detail


def test_answers_are_believed_of_known_issuers_and_another_secret_only(house):
    answers = house.channels["program"]["answers"]
    same = {"answers": {**answers, "secret_file": house.file("out")}}
    assert "another secret" in house.refusal(program=same)
    assert "identity.issuers" in house.refusal(program={"answers": {**answers, "issuers": ["https://evil.example"]}})


def test_channels_without_a_console(house):
    del house.whole["console"]
    assert "there is no console" in house.refusal()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("out", "whsec_AAAA", "program"), ("out", None, "program"), ("in", "x", "program"), ("token", "", "team"),
        ("signing", "short", "team"), ("people", "[]", "team"), ("people", '{"U1": {"issuer": "x"}}', "U1"), ("people", "{", "JSON"),
        ("people", json.dumps({"U1": {"issuer": "https://evil.example", "subject": "b", "tenant": None, "groups": []}}), "none of"),
    ],
)  # fmt: skip
def test_refused_before_anything_is_sent(name, text, said, house):
    config = house.written()
    (house.folder / name).write_text(text) if text is not None else (house.folder / name).unlink()
    outbox = registry.outbox_of_holds(config)
    try:
        with pytest.raises(ConfigError) as refused:
            [channels.posts(config, clock), channels.hooks(config, outbox, None)]
    finally:
        outbox.close()
    assert said in refused.value.detail and "whsec_AAAA" not in refused.value.detail


def test_the_same_secret_in_another_file(house):
    secret_file(house.folder, SECRET, name="in")
    config = house.written()
    outbox = registry.outbox_of_holds(config)
    with pytest.raises(ConfigError) as refused:
        channels.hooks(config, outbox, None)
    outbox.close()
    assert "they could be sent back" in refused.value.detail


async def test_a_test_message_on_each(house):
    async with Receiver() as hook, FakeSlack() as slack, MailServer() as mail:
        config = house.written(
            program={"url": f"{hook.url}/x"},
            team={"api_url": slack.url},
            letters={"host": "127.0.0.1", "port": mail.port, "tls": "none"},
        )
        assert [one["result"] for one in await channels._tested(channels.posts(config, clock))] == ["sent"] * 3
        assert hook.got[0]["type"] == "hold.test" and slack.asked and mail.letters
        hook.status, slack.error, mail.said = 500, "channel_not_found", "550 no"
        told = await channels._tested(channels.posts(config, clock))
        assert [one["result"] for one in told] == ["status_500", "channel_not_found", "smtp_550"]


def test_the_command(house, capsys):
    """Nobody is there: it says so of each, and exits with 1."""
    house.channels = {"program": house.channels["program"]}
    house.written(program={"url": "http://127.0.0.1:9/"})
    assert cli.main(["approvals", "channels", "test", "--config", str(house.path)]) == 1
    assert "program (webhook): no_connection" in capsys.readouterr().err
    assert cli.main(["approvals", "channels", "test", "--config", str(house.path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["channels"][0]["result"] == "no_connection"
    house.channels = {}
    house.written()
    assert cli.main(["approvals", "channels", "test", "--config", str(house.path)]) == 2


async def test_what_is_said_by_a_channel_is_a_valid_leaf(house):
    """In the real log: with an actor who came by that way, and with none where nobody is known."""
    config = house.written()
    keyring, register = registry.keyring(config), registry.register_of_holds(config)
    asked = Asked(register, Clock(clock()))
    with Journal(config, "0" * 64, "command", keyring) as journal:
        desk = HookDesk(Approvals(keyring, register, journal, clock))
        hold_id, ada = HoldId("ab" * 16), keyring.subject_reference(Identity(ISSUER, "ada", "oidc", ()))
        sealed = Sealer(keyring.token_key(ada), scope_of(hold_id, a_hold(hold_id).binding_sha256)).seal(
            SHOWN, json.dumps({"text": "mail [EMAIL]"})
        )
        hold = asked.hold(what=hold_id, facts=FACTS, hold_id=hold_id, caller_ref=ada, sealed=sealed)
        for channel in ("webhook", "slack"):
            said = Said(hold.hold_id, is_yes=True, justification="case 7 of 2026")
            await desk.note_refused(channel, said, "signature_wrong")
            bob = Named(ISSUER, f"bob-{channel}", None, ("approvers",))
            if channel == "webhook":
                assert await desk.resolve(bob, channel, said) == "approved"
            else:
                with pytest.raises(Refused) as refused:
                    await desk.resolve(bob, channel, said)
                assert (refused.value.code, refused.value.status) == ("already_approved", 409)
        origin = journal.origin
    register.close()
    leaves = [leaf for leaf in leaves_of(config, origin) if leaf["kind"].startswith("approval.")]
    assert [leaf["kind"] for leaf in leaves] == [
        "approval.refused",
        "approval.resolved",
        "approval.refused",
        "approval.refused",
    ]
    assert [leaf["actor"] and leaf["actor"]["method"] for leaf in leaves] == [None, "webhook", None, "slack"]
    for leaf in leaves:
        schema = json.loads((SCHEMAS / f"{leaf['kind']}.json").read_text())
        assert not list(Draft202012Validator(schema).iter_errors(leaf))


def test_readable():
    body = json.dumps({"messages": [{"role": "user", "content": "mail [EMAIL] now"}]})
    assert channels.readable(body) == "messages/0/role: user\nmessages/0/content: mail [EMAIL] now"
