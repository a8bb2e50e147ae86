"""Events of an ordinary exchange, and the room that answers every step as it should: for tests of the session."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.model import (
    Action,
    ApprovalTerms,
    Connection,
    Coverage,
    Decision,
    ExchangeId,
    HoldId,
    HoldState,
    Identity,
    Inspection,
    Piece,
    PolicyVersion,
    Receipt,
    Redaction,
    RedactionRule,
    Resolution,
    Secret,
    Standing,
    Tokens,
)
from ext_proc.phases import StreamingSession
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.model import Headers

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ID = ExchangeId("3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10")
DEMO = Connection("demo", (), None, 1000, 1000)
UPGRADES = replace(DEMO, name="upgrades", unsafe_allow_upgrade=True)
CONNECTIONS = {"demo": DEMO, "upgrades": UPGRADES}
ADA = Identity("https://idp.example.com", "ada", "oidc", ("analysts",))
BODY = b'{"ask":"ada@example.com"}'
SENT = b'{"ask":"<email>"}'
ANSWER = b'{"answer":"bob@example.com"}'
RELEASED = b'{"answer":"<email>"}'
INSPECTION = Inspection("fake", "chat", "demo", is_stream=False, parameters={}, findings={"EMAIL": 1}, text_bytes=20)
RULES = (RedactionRule("*", Action.MASK),)
TOKENISED = (RedactionRule("EMAIL", Action.TOKENISE),)
TOKENS = Tokens({("EMAIL", "ada@example.com"): "EMAIL_QWRTZB"}, {"EMAIL_QWRTZB": "ada@example.com"})
DECISION = Decision(
    allow=True,
    reasons=(),
    redact_request=RULES,
    redact_response=(RedactionRule("EMAIL", Action.HASH),),
    approval=None,
    record_payloads=True,
    decision_id="d-1",
    policy=PolicyVersion("r-1", "0" * 64),
)
TERMS = ApprovalTerms(("approvers",), 1, 900, 600, "for approved use only")
TO_BE_APPROVED = replace(DECISION, approval=TERMS)
HELD = Standing(HoldId("ab" * 16), HoldState.PENDING, "cd" * 32, 1, AT, AT + timedelta(seconds=600))
AGREED = replace(
    HELD,
    state=HoldState.CLAIMED,
    valid_until=AT + timedelta(seconds=900),
    resolutions=(
        Resolution(True, "hmac-sha256:" + "ef" * 32, AT, "demo/desk-command/20261124T120000000000-aaaaaaaa", 3),
    ),
)
CREDENTIAL = {"authorization": Secret("Bearer upstream-key")}
HEADERS: Headers = (
    (":method", b"POST"),
    (":path", b"/v1/chat/completions?beta=true"),
    (":authority", b"gate.example.com"),
    ("content-type", b"application/json"),
    ("content-length", b"25"),
    ("user-agent", b"test"),
    ("accept-encoding", b"gzip"),
    ("cookie", b"a=b"),
    ("authorization", b"Bearer callers-own"),
)
ANSWER_HEADERS: Headers = (
    (":status", b"200"),
    ("content-type", b"application/json"),
    ("content-encoding", b"gzip"),
    ("set-cookie", b"a=b"),
)
STREAM_HEADERS: Headers = (
    (":status", b"200"),
    ("content-type", b"text/event-stream"),
    ("content-length", b"30"),
    ("set-cookie", b"a=b"),
)
PIECE = b"data: bob@example.com\n\n"
MASKED_PIECE = b"data: <email>\n\n"
FAREWELL = b"data: farewell\n\n"
VIA_UPSTREAM = ev.UpstreamAttributes("via_upstream", "0", "10.0.0.9:443")


def attributes(route: str = "demo", *, is_mtls: bool = False) -> ev.Attributes:
    """What Envoy says of the exchange."""
    return ev.Attributes(ID, route, "10.0.0.1:4000", is_mtls)


def head(*more: tuple[str, bytes], route: str = "demo", is_last: bool = False, without: str = "") -> ev.RequestHeaders:
    """The request's head, with fields added, without one."""
    kept = tuple((name, value) for name, value in HEADERS if name != without)
    return ev.RequestHeaders(AT, (*kept, *more), is_last, attributes(route))


def answer_head(
    status: bytes = b"200", *, is_last: bool = False, upstream: ev.UpstreamAttributes = VIA_UPSTREAM
) -> ev.ResponseHeaders:
    """The answer's head."""
    return ev.ResponseHeaders(AT, ((":status", status), *ANSWER_HEADERS[1:]), is_last, attributes(), upstream)


def stream_head() -> ev.ResponseHeaders:
    """The head of an answer that streams."""
    return ev.ResponseHeaders(AT, STREAM_HEADERS, is_last=False, attributes=attributes(), upstream=VIA_UPSTREAM)


class FakeAnswer:
    """`ports.AnswerStream` that masks one address and holds the last bytes back until more come, or the end."""

    def __init__(self) -> None:
        self._held = b""
        self.forwarded = 0

    def feed(self, data: bytes, *, is_last: bool) -> Piece:
        """See `ports.AnswerStream.feed`."""
        masked = self._held + data.replace(b"bob@example.com", b"<email>")
        self._held = b"" if is_last else masked[-2:]
        body = masked if is_last else masked[:-2]
        self.forwarded += len(body)
        return Piece(body)

    def told(self) -> Redaction:
        """See `ports.AnswerStream.told`."""
        return Redaction(b"", b"", coverage=Coverage(1, self.forwarded, 0, self.forwarded), tainted_headers=("x-bad",))

    def farewell(self, code: str, text: str) -> bytes:
        """See `ports.AnswerStream.farewell`."""
        del code, text
        return FAREWELL


def local_reply(status: bytes = b"504", *, is_last: bool = False) -> ev.ResponseHeaders:
    """A reply of Envoy's own."""
    told = ev.UpstreamAttributes("stream_idle_timeout", "64", "")
    return ev.ResponseHeaders(AT, ((":status", status),), is_last, attributes(), told)


def receipt(sequence: int = 7) -> Receipt:
    """Proof of an entry."""
    return Receipt("origin", sequence, "ab" * 32, f"promise {sequence}")


def done(effect: do.Effect) -> ev.AnswerEvent:  # noqa: PLR0911, PLR0912 - one for each step
    """What the rooms answer where all goes well.

    Raises:
        TypeError: the effect is an answer to Envoy, not a step.
    """
    match effect:
        case do.Admit():
            return ev.Admitted(AT)
        case do.Authenticate():
            return ev.Authenticated(AT, ADA)
        case do.Inspect():
            return ev.Inspected(AT, INSPECTION)
        case do.Decide():
            return ev.Decided(AT, DECISION)
        case do.AskApproval():
            return ev.HoldStands(AT, HELD)
        case do.AwaitApproval():
            return ev.HoldStands(AT, AGREED)
        case do.OpenTokens():
            return ev.TokensOpened(AT, TOKENS)
        case do.RedactRequest():
            return ev.Redacted(AT, Redaction(SENT, BODY))
        case do.RedactResponse(body=body):
            return ev.Redacted(AT, Redaction(RELEASED if body else b"", body))
        case do.OpenStream():
            return ev.StreamOpened(AT, FakeAnswer())
        case do.RedactPiece(answer, body, is_last):
            return ev.PieceRedacted(AT, answer.feed(body, is_last=is_last))
        case do.Unlock():
            return ev.Unlocked(AT, CREDENTIAL)
        case do.Record(entry):
            return ev.Recorded(AT, receipt(1 if entry.kind == "inference.intent" else 2))
        case _:
            raise TypeError(type(effect).__name__)


def later(seconds: float = 1) -> datetime:
    """After `AT`."""
    return AT + timedelta(seconds=seconds)


class Conversation:
    """A session and everything it ever asked for. ``room`` answers its steps."""

    def __init__(self, room: Callable[[do.Effect], ev.AnswerEvent] = done) -> None:
        self.session = StreamingSession(CONNECTIONS)
        self.effects: list[do.Effect] = []
        self._room = room

    def say(self, event: ev.Event) -> do.Effect | None:
        """One event; its effect, if there is one."""
        effects = self.session.handle(event)
        assert len(effects) <= 1, "the driver performs one at a time"
        self.effects.extend(effects)
        return effects[0] if effects else None

    def until(self, kind: type[Any], event: ev.Event) -> do.Effect | None:
        """Go on from ``event``, every step done, until an effect of this kind is asked for; it is not done."""
        effect = self.say(event)
        while effect is not None and not isinstance(effect, (kind, do.Continue, do.Refuse)):
            effect = self.say(self._room(effect))
        return effect

    def settle(self, *events: ev.Event) -> do.Effect | None:
        """Say these, doing every step."""
        effect: do.Effect | None = None
        for event in events:
            effect = self.until(type(None), event)
        return effect

    @property
    def entries(self) -> list[Any]:
        """What was to be recorded, in order."""
        return [effect.entry for effect in self.effects if isinstance(effect, do.Record)]
