"""Whatever keeps somebody from a page, said so that they know what to do next, be it a person or a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.approval.hold import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.console.asking import BadAsk
    from ext_proc.console.ports import Objection
    from ext_proc.console.signing_in import SignInRefused
    from ext_proc.errors import GateError

_GONE: Final = frozenset({"expired", "withdrawn", "abandoned", "already_said", "unreadable"})


@dataclass(frozen=True, slots=True)
class Way:
    """Somewhere to go on."""

    label: str
    to: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """An answer other than what was asked for. ``typed``: what somebody had written, so that it is not lost."""

    status: int
    code: str
    title: str
    text: str
    ways: tuple[Way, ...] = ()
    typed: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Stopped(Exception):
    """The way to a page ends here, with ``trouble``."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.code)
        self.trouble = trouble


HOME: Final = Way("To the first page", "/")
_SIGN_IN_STATUS: Final = {"issuer_said_no": 403, "pairwise_subjects": 503}
_BACK_LATER: Final = "Nothing was changed. Try again in a moment; if it goes on, tell whoever operates the gateway."

NOT_FOUND: Final = Trouble(
    404,
    "not_found",
    "There is nothing here",
    "The address is wrong, what it named is over, or it belongs to somebody else. Check the address, or start over.",
    (HOME,),
)
NOT_SIGNED_IN: Final = Trouble(
    401,
    "not_signed_in",
    "You are not signed in",
    "Your session is over: it was idle too long, or ended. Sign in and you are back where you were.",
    headers=(("www-authenticate", "Bearer"),),
)
NO_TOKEN: Final = Trouble(
    401,
    "not_signed_in",
    "Nobody knows who you are",
    "Send an access token of the issuer that people sign in with, as `Authorization: Bearer …`.",
    headers=(("www-authenticate", "Bearer"),),
)
BAD_TOKEN: Final = Trouble(
    401,
    "invalid_token",
    "Your token is not valid here",
    "It has expired, or is of another issuer, for another audience, or not signed as it must be. Get a new one of the "
    "issuer that people sign in with, for the audience that callers use, and send that.",
    headers=(("www-authenticate", 'Bearer error="invalid_token"'),),
)
NOT_FOR_YOUR_TOKEN: Final = Trouble(
    403,
    "role_missing",
    "This is for other roles than yours",
    "Roles come from the groups in your token. Ask whoever runs the gateway for the group that you need, then get a "
    "new token. `/api/v1/me` says which roles this one has.",
)
NOT_FOR_YOU: Final = Trouble(
    403,
    "role_missing",
    "This page is for other roles than yours",
    "Roles come from the groups in your token. Ask whoever runs the gateway for the group that you need, then sign out "
    "and in again.",
    (Way("Who am I here?", "/me"), HOME),
)
FORGED: Final = Trouble(
    403,
    "forged",
    "This did not come from a page of your session",
    "Nothing was changed. It happens when a page was open since before you signed in last, or when another site sent "
    "you here. Open the page anew and do it again.",
    (HOME,),
)
TOO_LARGE: Final = Trouble(413, "too_large", "That is too much", "At most 64 KiB can be sent at once. Shorten it.")
NOT_READABLE: Final = Trouble(
    400, "unreadable", "That cannot be read", "Send what the form or the API's description has, in UTF-8."
)
NOT_JSON: Final = Trouble(
    415, "not_json", "The API takes JSON", "Send an object, with `content-type: application/json`."
)
BUG: Final = Trouble(500, "internal", "Something here is broken", f"It is on our side, and in our log. {_BACK_LATER}")
BUSY: Final = Trouble(
    503,
    "too_many_streams",
    "Too many pages are watching",
    "Close some pages, or reload by hand.",
    headers=(("retry-after", "30"),),
)


def of_method(allowed: frozenset[str]) -> Trouble:
    """The address is right, the method is not."""
    told = ", ".join(sorted(allowed))
    return Trouble(405, "method", "Not in this way", f"This address takes {told}.", (HOME,), headers=(("allow", told),))


def of_ask(error: BadAsk) -> Trouble:
    """A field or a word of the query."""
    return Trouble(400, "bad_ask", "That cannot be meant", f"{error.name} {error.wanted}.", (HOME,))


def of_objection(error: Objection, justification_min: int) -> Trouble:
    """The rules of approval say no."""
    if error.code == "no_such_hold":
        return NOT_FOUND
    text = words_of(error.code, justification_min)
    return Trouble(objection_status(error.code), error.code, "Not so", text, (Way("Inbox", "/holds"),))


def objection_status(code: str) -> int:
    """403: not by this person; 409: not any more; 422: not in these words."""
    if code == "justification_required":
        return 422
    return 409 if code in _GONE or code.startswith("already_") else 403


def of_gate(error: GateError) -> Trouble:
    """Something that is needed is not to be had."""
    headers = (("retry-after", "5"),) if error.is_retryable or error.http_status >= 500 else ()
    text = f"{error.client_text} {_BACK_LATER}" if error.http_status >= 500 else error.client_text
    return Trouble(error.http_status, error.code, "It cannot be done at the moment", text, headers=headers)


def of_sign_in(error: SignInRefused, refusals: Mapping[str, str]) -> Trouble:
    """Nobody came in."""
    return Trouble(
        _SIGN_IN_STATUS.get(error.code, 400),
        error.code,
        "You are not signed in",
        f"{refusals[error.code]} Begin again; if it goes on, tell whoever operates the gateway.",
        (Way("Sign in", "/login"),),
    )
