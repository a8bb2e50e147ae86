"""The one list of what there is: each page with its twin in the API, and whom it is for.

``audience`` is a set of roles, one of which is enough; `SIGNED_IN`, everybody whom the issuer vouches for, where the
thing itself knows who may see it (a hold); or `PUBLIC`, which shows nothing of anybody. A route without an audience
cannot be written down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ext_proc.console import seen, views
from ext_proc.console.people import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ext_proc.console.asking import Asked
    from ext_proc.console.ports import Rooms

API: Final = "/api/v1"
Audience = frozenset[Role] | Literal["signed_in", "public"]
SIGNED_IN: Final = "signed_in"
PUBLIC: Final = "public"
APPROVERS: Final = frozenset({Role.APPROVER})
AUDITORS: Final = frozenset({Role.AUDITOR})

_HOLD: Final = "{hold_id:[0-9a-f]{32}}"
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_EXCHANGE: Final = f"{{exchange_id:{_UUID}}}"
_SEARCH: Final = ("query", "since", "until", "connection", "model", "decision", "outcome", "entity", "code")


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    ``path`` is that of the page; the twin's has `API` before it. ``view`` gets what it says, ``answer`` is that one's
    class, ``template`` how a page shows it (None: there is no page). ``query`` and ``told`` name what can be said in
    the address and in the body. ``is_part``: a piece of a page that the page's script fetches by itself.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    audience: Audience
    summary: str
    view: Callable[[Rooms, Asked], Awaitable[Any]] | None = None
    answer: type | None = None
    template: str | None = None
    query: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    is_part: bool = False
    has_api: bool = True

    @property
    def is_for_browsers(self) -> bool:
        """Is it (also) under ``path`` itself?"""
        return self.template is not None or self.is_part or not self.has_api


ROUTES: Final = (
    # Pages with a twin ---------------------------------------------------------------------------------------------
    Route("me", "GET", "/me", SIGNED_IN, "Who you are here, and your roles.", views.myself, views.Myself, "me.html"),
    Route(
        "inbox", "GET", "/holds", APPROVERS, "Calls that wait for somebody to agree.", views.inbox, seen.Inbox,
        "inbox.html", query=("limit", "after"),
    ),
    Route(
        "hold", "GET", f"/holds/{_HOLD}", SIGNED_IN, "One hold: for those who may resolve it, and for who asked.",
        views.hold, seen.HoldSeen, "hold.html",
    ),
    Route(
        "hold_clear", "POST", f"/holds/{_HOLD}/clear", APPROVERS,
        "One hold with the request as it came, for those whom the policy lets read it. Recorded.",
        views.hold_clear, seen.HoldSeen, "hold.html",
    ),
    Route(
        "resolve", "POST", f"/holds/{_HOLD}/resolution", APPROVERS, "Approve or deny. Recorded.", views.resolve,
        seen.HoldSeen, "hold.html", told=("answer", "justification", "channel"),
    ),
    Route(
        "exchanges", "GET", "/exchanges", AUDITORS, "Exchanges that fit, the newest first.", views.exchanges,
        seen.Found, "exchanges.html", query=(*_SEARCH, "limit", "after"),
    ),
    Route(
        "exchange", "GET", f"/exchanges/{_EXCHANGE}", AUDITORS, "One exchange: what happened, and what proves it.",
        views.exchange, seen.ExchangeSeen, "exchange.html",
    ),
    Route(
        "payloads", "POST", f"/exchanges/{_EXCHANGE}/payloads", AUDITORS, "The bodies of an exchange. Recorded.",
        views.payloads, seen.PayloadsSeen, "payloads.html", told=("purpose",),
    ),
    Route(
        "verify_one", "POST", f"/exchanges/{_EXCHANGE}/verification", AUDITORS, "Verify the records of an exchange.",
        views.verify_one, seen.Verdict, "verdict.html",
    ),
    Route(
        "charts", "GET", "/charts", frozenset({Role.AUDITOR, Role.OPERATOR, Role.POLICY_AUTHOR}),
        "Volume, decisions, entities, latency and holds by hour.", views.charts, seen.Charts, "charts.html",
        query=("hours",),
    ),
    Route(
        "policies", "GET", "/policies", frozenset({Role.AUDITOR, Role.OPERATOR, Role.POLICY_AUTHOR}),
        "Which policies decided since when, and what differs.", views.policies, seen.Activations, "policies.html",
    ),
    Route(
        "verification", "GET", "/verification", frozenset({Role.AUDITOR, Role.OPERATOR}),
        "The last verification, completeness by day, and the newest heads of the logs.", views.verification,
        seen.Standing, "verification.html",
    ),
    # Pieces of pages, and what is no page --------------------------------------------------------------------------
    Route(
        "inbox_rows", "GET", "/holds/rows", APPROVERS, "The list of the inbox.", views.inbox, seen.Inbox, "_holds.html",
        query=("limit", "after"), is_part=True, has_api=False,
    ),
    Route(
        "changes", "GET", "/holds/changes", APPROVERS,
        "Says `changed` whenever the inbox did (`text/event-stream`).", is_part=True,
    ),
    Route("home", "GET", "/", SIGNED_IN, "The first page of whoever comes.", has_api=False),
    Route("logout", "POST", "/logout", SIGNED_IN, "End the session.", has_api=False),
    Route("login", "GET", "/login", PUBLIC, "Begin to sign in.", query=("to",), has_api=False),
    Route("callback", "GET", "/login/callback", PUBLIC, "Back from the identity provider.", has_api=False),
    Route("signed_out", "GET", "/signed-out", PUBLIC, "What is left when a session is over.", has_api=False),
    Route("static", "GET", "/static/{digest:[0-9a-f]{16}}/{file:[a-z.]+}", PUBLIC, "Style and script.", has_api=False),
    Route("hook_webhook", "POST", "/hooks/webhook", PUBLIC, "A signed answer to a hold.", has_api=False),
    Route("hook_slack", "POST", "/hooks/slack", PUBLIC, "Somebody pressed a button in Slack.", has_api=False),
    Route("openapi", "GET", "/openapi.json", PUBLIC, "This API, as OpenAPI 3.1 has it."),
    Route("health", "GET", "/health", PUBLIC, "Does the console answer?", has_api=False),
)  # fmt: skip

NAVIGATION: Final = (
    ("inbox", "Inbox"),
    ("exchanges", "Exchanges"),
    ("charts", "Charts"),
    ("policies", "Policies"),
    ("verification", "Verification"),
)
BY_NAME: Final = {route.name: route for route in ROUTES}
_PAGES: Final = tuple(
    re.compile(re.sub(r"\{\w+:((?:[^{}]|\{\d+\})+)\}", r"(?:\1)", route.path))
    for route in ROUTES
    if route.method == "GET" and route.audience != PUBLIC and not route.is_part
)
_TO_MAX: Final = 2048


def is_for(route: Route, roles: frozenset[Role]) -> bool:
    """May somebody with these roles, who is signed in, ask for it?"""
    return isinstance(route.audience, str) or not route.audience.isdisjoint(roles)


def safe_return(to: str | None) -> str:
    r"""Where to go after signing in: one of our own pages, with its query; anything else is the first page.

    Not a list of what is dangerous (``//evil.example``, ``/\evil.example``, ``javascript:``): a path that the list of
    routes knows cannot lead elsewhere.
    """
    path, _, query = (to or "").partition("?")
    if len(to or "") > _TO_MAX or not any(page.fullmatch(path) for page in _PAGES):
        return "/"
    if not re.fullmatch(r"[A-Za-z0-9_.~%&=:+@/-]*", query):
        return path
    return f"{path}?{query}" if query else path
