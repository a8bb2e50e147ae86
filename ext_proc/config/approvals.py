"""``approvals``: calls that wait for people, and where people hear of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ext_proc.approval.channels.address import LOOPBACK, BadAddress, check_url
from ext_proc.config.addresses import url_without_user
from ext_proc.config.fields import Like, Name, Section, Text, once


def _receiver(url: str) -> str:
    try:
        check_url(url)
    except BadAddress as bad:
        raise ValueError(str(bad)) from None
    return url


ReceiverUrl = Annotated[str, AfterValidator(_receiver), url_without_user("secrets belong in files of their own")]
HookUrl = Annotated[
    str, AfterValidator(_receiver), url_without_user("an address that opens something by itself belongs in url_file")
]
MailAddress = Annotated[
    str,
    Like(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", "an address without a name: desk@example.com"),
]
EventName = Literal["hold.pending", "hold.resolved"]


class _Channel(Section):
    """What all channels have in common."""

    name: Name
    """Its name: in the log, in metrics, and in what is kept of it. Under another name everything is told anew."""
    groups: Annotated[list[Text], Field(min_length=1)] | None = None
    """Only calls that members of one of these groups may resolve. Left out: all."""
    tenants: Annotated[list[Text | None], Field(min_length=1)] | None = None
    """Only calls of these tenants (`null`: of callers without one). Left out: of all."""
    per_minute: Annotated[int, Field(ge=1, le=600)] = 30
    """Messages a minute at most. Where more waits, it is told in digests."""
    include: Literal["facts", "masked"] = "facts"
    """`facts`: connection, model, operation, findings and terms, no content. `masked`: also what the model would get.
    Each time that is sent, it is on record."""


class WebhookAnswersSection(Section):
    """Answers that this receiver may send back to the console (`POST /hooks/webhook`)."""

    secret_file: Path
    """The secret that signs them: another one than ours. In the same form."""
    may_act_for: Annotated[list[Text], Field(min_length=1)]
    """The groups that a person may be said to be in. Whoever is said to be in another one is not believed in."""
    issuers: list[Text] = []
    """The issuers whose people it may name. Left out: all of `identity.issuers`."""
    tenants: list[Text] = []
    """The tenants whose people it may name. Left out: only people who have none."""


class WebhookSection(_Channel):
    """Signed messages (Standard Webhooks) to a program of yours."""

    kind: Literal["webhook"]
    """A webhook."""
    url: HookUrl | None = None
    """Where they go: https (or http on loopback)."""
    url_file: Path | None = None
    """A file with that address, instead of `url`: for one that has a credential in it (`sig=…`, as Azure's workflows
    have). Read when the console starts."""
    secret_file: Path
    """`whsec_` and the base64 of 24 to 64 random bytes. Two lines while it is changed, the newer first: both sign."""
    events: Annotated[list[EventName], Field(min_length=1)] = ["hold.pending", "hold.resolved"]
    """What is told."""
    ca_file: Path | None = None
    """PEM authorities of its TLS, if not public."""
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 10.0
    """Time for one message."""
    unsafe_allow_private: bool = False
    """Let its name lead into your own network. Whoever rules that name can have us ask what is there."""
    answers: WebhookAnswersSection | None = None
    """Answers from there. Left out: none."""

    @model_validator(mode="after")
    def _is_two_secrets(self) -> WebhookSection:
        if self.answers is not None and self.answers.secret_file == self.secret_file:
            raise ValueError("answers.secret_file: it must be another secret than that of our own messages")
        return self

    @model_validator(mode="after")
    def _has_one_address(self) -> WebhookSection:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("url, url_file: exactly one of them")
        return self


class SlackSection(_Channel):
    """A channel at Slack, with buttons."""

    kind: Literal["slack"]
    """Slack."""
    channel: Annotated[str, Like(r"[CGD][A-Z0-9]{2,30}", "a channel's id at Slack, for example C0123456789")]
    """The channel's id."""
    token_file: Path
    """The bot's token (`xoxb-…`; scope `chat:write`)."""
    signing_secret_file: Path
    """The app's signing secret. Two lines while it is changed."""
    people_file: Path
    """Whom Slack's users are, as JSON: `{"U0123": {"issuer": …, "subject": …, "tenant": null, "groups": […]}}`. Read
    anew for each answer."""
    api_url: ReceiverUrl = "https://slack.com/api"
    """Slack's API."""


class EmailSection(_Channel):
    """E-mail. One cannot answer by it."""

    kind: Literal["email"]
    """E-mail."""
    host: Annotated[str, Like(r"[A-Za-z0-9.:-]+", "a host name or an address")]
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """`tls`: from the first byte (port 465). `none`: on loopback only."""
    ca_file: Path | None = None
    """PEM authorities of its TLS, if not public."""
    username: Text | None = None
    """Who we are there. Left out: nobody asks."""
    password_file: Path | None = None
    """The password."""
    sender: MailAddress
    """From whom the messages are."""
    to: Annotated[list[MailAddress], Field(min_length=1, max_length=50)]
    """To whom they go."""
    events: Annotated[list[EventName], Field(min_length=1)] = ["hold.pending"]
    """What is told."""

    @model_validator(mode="after")
    def _is_safe(self) -> EmailSection:
        if self.tls == "none" and self.host not in LOOPBACK:
            raise ValueError("tls: none is for loopback only")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file: both or none")
        return self


ChannelSection = Annotated[WebhookSection | SlackSection | EmailSection, Field(discriminator="kind")]


class ApprovalsSection(Section):
    """Calls that wait for people."""

    pending_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Calls that may wait at once, also those whose caller left, as long as they can be sent again. More get a 503."""
    pending_max_per_caller: Annotated[int, Field(ge=1)] = 100
    """Of one caller: nobody can fill everybody's inbox."""
    justification_min: Annotated[int, Field(ge=1, le=500)] = 10
    """Characters that an approver must write, with a letter among them: what they say is what an auditor has."""
    channels: list[ChannelSection] = []
    """Where approvers hear of such calls (`docs/approvals.md`, Channels). The console tells them."""

    @model_validator(mode="after")
    def _are_several(self) -> ApprovalsSection:
        once("channels: two have the name", (one.name for one in self.channels))
        return self
