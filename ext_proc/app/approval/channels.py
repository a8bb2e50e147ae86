"""Channels of approval, joined: from the configuration to the courier that tells, and the ways in that listen."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ext_proc.app.approval.approvals import Objection
from ext_proc.app.approval.passages import passages
from ext_proc.app.process import clock
from ext_proc.approval.channels.address import BadAddress
from ext_proc.approval.channels.answers import Refused, Sender, SlackAnswers, WebhookAnswers, Workspace
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.courier import Courier, Post, Teller
from ext_proc.approval.channels.incoming import read_people
from ext_proc.approval.channels.mail import Mail, MailServer
from ext_proc.approval.channels.message import Event, Message
from ext_proc.approval.channels.outbox import Audience
from ext_proc.approval.channels.outgoing import Outgoing
from ext_proc.approval.channels.secret_files import BadSecret, one_secret, slack_secrets, webhook_secrets
from ext_proc.approval.channels.slack import Slack
from ext_proc.approval.channels.webhook import Webhook
from ext_proc.config import EmailSection, SlackSection, WebhookSection, load
from ext_proc.console.hooks import Hooks
from ext_proc.errors import ConfigError
from ext_proc.model import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from ext_proc.app.approval.approvals import Approvals
    from ext_proc.approval.channels.channel import Channel
    from ext_proc.approval.channels.courier import Changes
    from ext_proc.approval.channels.incoming import Named, Said
    from ext_proc.approval.channels.outbox_sql import SqlOutbox
    from ext_proc.config import ChannelSection, Config
    from ext_proc.model import HoldId

_T = TypeVar("_T")


class HookDesk:
    """`answers.Desk`: the people's desk, for those who come by a signed message.

    Args:
        desk: knows the rules, and keeps the records.
    """

    def __init__(self, desk: Approvals) -> None:
        self._desk = desk
        # Of their own: what strangers send keeps nobody waiting who reads a page.
        self._strangers = ThreadPoolExecutor(1, thread_name_prefix="strangers")

    async def resolve(self, person: Named, channel: str, said: Said) -> str:
        """See `answers.Desk.resolve`."""
        identity = Identity(person.issuer, person.subject, channel, person.groups, tenant=person.tenant)

        def done() -> str:
            try:
                view = self._desk.resolve(identity, said.hold_id, channel, said.justification, is_yes=said.is_yes)
            except Objection as objection:
                raise Refused(objection.reason, objection.text, objection.http_status) from None
            return view.hold.state.value

        return await asyncio.to_thread(done)

    async def note_refused(self, channel: str, said: Said, code: str) -> None:
        """See `answers.Desk.note_refused`."""
        work = partial(self._desk.refuse_stranger, said.hold_id, channel, said.action, code)
        await asyncio.get_running_loop().run_in_executor(self._strangers, work)


def courier(config: Config, outbox: SqlOutbox, desk: Approvals, changes: Changes) -> Courier:
    """Who tells what is in the outbox.

    Raises:
        ConfigError: a channel is not as it must be.
    """
    url = config.console.public_url if config.console else ""

    def text_of(hold_id: HoldId, kind: str) -> str | None:
        text = desk.show_in(hold_id, kind)
        return None if text is None else readable(text)

    teller = Teller(lambda hold_id: f"{url}/holds/{hold_id}", text_of)
    return Courier(outbox, posts(config, clock), teller, changes, clock)


def posts(config: Config, now: Callable[[], datetime]) -> list[Post]:
    """The channels, each tried as far as that is possible without sending anything.

    Raises:
        ConfigError: one is not as it must be; ``detail`` names it.
    """
    inbox_url = f"{config.console.public_url if config.console else ''}/holds"
    return [_named(one.name, partial(_post, one, inbox_url, now)) for one in config.approvals.channels]


def hooks(config: Config, outbox: SqlOutbox, desk: Approvals) -> Hooks:
    """The ways in.

    Raises:
        ConfigError: a file of secrets or people is not as it must be.
    """
    known = frozenset(one.issuer for one in config.identity.issuers)
    taker, senders, workspaces = HookDesk(desk), [], []
    for one in config.approvals.channels:
        match one:
            case WebhookSection() if one.answers is not None:
                senders.append(_named(one.name, partial(_sender, one, known)))
            case SlackSection():
                workspaces.append(_named(one.name, partial(_workspace, one, known)))
            case _:
                pass
    return Hooks(
        WebhookAnswers(senders, outbox, taker, clock) if senders else None,
        SlackAnswers(workspaces, outbox, taker, clock) if workspaces else None,
    )


def tested(path: Path, *, as_json: bool) -> int:
    """``affidavit approvals channels test``: a message on each channel, and what came back."""
    config, _ = load(path)
    if not config.approvals.channels:
        raise ConfigError(f"{path}: approvals.channels names none: see docs/approvals.md")
    found = asyncio.run(_tested(posts(config, clock)))
    if as_json:
        print(json.dumps({"channels": found}))
    for one in [] if as_json else found:
        where = sys.stdout if one["result"] == "sent" else sys.stderr
        print(f"{one['channel']} ({one['kind']}): {one['result']}", file=where)
    return 0 if all(one["result"] == "sent" for one in found) else 1


async def _tested(found: Sequence[Post]) -> list[dict[str, Any]]:
    told = []
    for post in found:
        message = Message(f"msg_test_{uuid.uuid4().hex}", Event.TEST, clock())
        try:
            await post.channel.send(message)
            result = "sent"
        except Undelivered as error:
            result = error.word
        told.append({"channel": post.channel.name, "kind": post.channel.kind, "result": result})
    return told


def readable(body: str) -> str:
    """The texts of a body, one by one, as people read them."""
    return "\n".join(f"{one.label}: {''.join(segment.text for segment in one.segments)}" for one in passages(body))


# One channel -------------------------------------------------------------------------------------------------------


def _named(name: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except (BadSecret, BadAddress, ValueError) as bad:
        raise ConfigError(f"approvals.channels: {name}: {bad}") from None


def _post(section: ChannelSection, inbox_url: str, now: Callable[[], datetime]) -> Post:
    events = frozenset(
        {Event.PENDING, Event.RESOLVED} if isinstance(section, SlackSection) else map(Event, section.events)
    )
    audience = Audience(
        section.name,
        events,
        None if section.groups is None else frozenset(section.groups),
        None if section.tenants is None else frozenset(section.tenants),
    )
    channel = _channel(section, inbox_url, now)
    is_for_people = not isinstance(section, WebhookSection)
    return Post(channel, audience, section.per_minute, is_for_people, section.include == "masked")


def _channel(section: ChannelSection, inbox_url: str, now: Callable[[], datetime]) -> Channel:
    match section:
        case WebhookSection():
            return _webhook(section, now)
        case SlackSection():
            return _slack(section, inbox_url)
        case EmailSection():
            return _mail(section, inbox_url)


def _webhook(section: WebhookSection, now: Callable[[], datetime]) -> Webhook:
    secrets = partial(webhook_secrets, section.secret_file)
    secrets()
    way = Outgoing(
        section.url or "" if section.url_file is None else one_secret(section.url_file),
        ca_file=section.ca_file,
        may_be_private=section.unsafe_allow_private,
        deadline_seconds=section.deadline_seconds,
    )
    return Webhook(section.name, way, secrets, now)


def _slack(section: SlackSection, inbox_url: str) -> Slack:
    token = partial(one_secret, section.token_file)
    token()
    return Slack(section.name, Outgoing(section.api_url), token, section.channel, inbox_url)


def _mail(section: EmailSection, inbox_url: str) -> Mail:
    password = None if section.password_file is None else partial(one_secret, section.password_file)
    if password is not None:
        password()
    server = MailServer(section.host, section.port, section.tls, section.username, section.ca_file)
    return Mail(section.name, server, password, section.sender, tuple(section.to), inbox_url)


def _sender(section: WebhookSection, known: frozenset[str]) -> Sender:
    told = section.answers
    if told is None:
        raise ValueError("it sends no answers")
    secrets = partial(webhook_secrets, told.secret_file)
    if not set(secrets()).isdisjoint(webhook_secrets(section.secret_file)):
        raise ValueError("answers.secret_file: the same secret as that of our own messages: they could be sent back")
    return Sender(
        section.name,
        secrets,
        frozenset(told.issuers) or known,
        frozenset(told.tenants) if told.tenants else frozenset({None}),
        frozenset(told.may_act_for),
    )


def _workspace(section: SlackSection, known: frozenset[str]) -> Workspace:
    secrets, people = partial(slack_secrets, section.signing_secret_file), partial(_people, section.people_file, known)
    secrets()
    people()
    return Workspace(section.name, secrets, people, _slack(section, ""))


def _people(path: Path, known: frozenset[str]) -> Mapping[str, Named]:
    try:
        found = read_people(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        said = error if type(error) is ValueError else "not JSON that can be read"
        raise BadSecret(f"{path}: {said}") from None
    for user, person in found.items():
        if person.issuer not in known:
            raise BadSecret(f"{path}: {user[:64]}: the issuer is none of identity.issuers")
    return found
