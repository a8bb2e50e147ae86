"""What a head may say, name by name and value by value: forms instead of free text, either way. Pure.

A header is a place for personal data and for tricks, and nobody masks it. So only what stands here passes, and only in
a form that leaves no room for a sentence: a number, a date, a label, a word of a list. What has no such form is taken
off, or refused where taking it off would change what is asked for. Labels of the caller's own choice (the query, the
betas) are on record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.errors import BadBreakGlass, BadHeaders, UnsupportedContent

if TYPE_CHECKING:
    from ext_proc.model import Headers

JSON: Final = "application/json"
"""The only kind of body that goes on: the gate wrote it itself, so a caller's parameters say nothing about it."""

BREAK_GLASS: Final = "x-affidavit-break-glass"
"""How a caller says that this cannot wait for people, and why. Whether that counts, the policy says."""

_REASON: Final = re.compile(rb"[\x20-\x7e]{8,500}")

BETAS_MAX: Final = 16
"""Of both headers together: more than any client sends, and few enough for a leaf."""

UNTOUCHABLE: Final = r"(?i)(:.*|host|transfer-encoding|x-request-id|x-forwarded-.*|x-envoy-.*)"
"""What Envoy lets nobody take off (``disallow_expression`` in ``envoy/bootstrap.yaml``; a test holds them together).

To ask for it is an error to Envoy, found only when the record is written: so it is never asked for. Envoy itself takes
these off, behind the gate on the way there and before it on the way back.
"""

_UNTOUCHABLE: Final = re.compile(UNTOUCHABLE)
_BETA: Final = r"[a-z0-9][a-z0-9._=-]{0,63}"  # `prompt-caching-2024-07-31`, `assistants=v2`
_LABEL: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_DAY: Final = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]"
_COUNT: Final = r"[0-9]{1,15}"
_INSTANT: Final = _DAY + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
_DURATION: Final = r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d)?){1,4}"
_HTTP_DATE: Final = (
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
_TYPES: Final = r"(?:application/(?:json|problem\+json|x-ndjson|jsonl)|text/(?:event-stream|plain))"
_RANGE: Final = rf"(?:\*/\*|(?:application|text)/\*|{_TYPES})(?:; ?q=[01](?:\.[0-9]{{1,3}})?)?"
_CACHE: Final = (
    r"(?:no-store|no-cache|no-transform|private|public|must-revalidate|proxy-revalidate|immutable"
    r"|(?:s-maxage|max-age)=[0-9]{1,9})"
)


def _listed(one: str, most: int) -> str:
    return rf"{one}(?:, ?{one}){{0,{most - 1}}}"


def _compiled(forms: dict[str, str]) -> dict[str, re.Pattern[bytes]]:
    return {name: re.compile(form.encode()) for name, form in forms.items()}


# What a caller may say to the upstream beside the body, and how.
_FORWARDED: Final = _compiled(
    {
        "accept": _listed(_RANGE, 8),
        "anthropic-beta": _listed(_BETA, BETAS_MAX),
        "anthropic-version": _DAY,
        "content-length": r"[0-9]{1,18}",
        "openai-beta": _listed(_BETA, BETAS_MAX),
        "traceparent": r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",  # W3C Trace Context, version 00
    }
)
_BETA_NAMES: Final = ("anthropic-beta", "openai-beta")
# Without these the upstream would do something else than was asked for: in another form they are refused.
_MEANT: Final = (*_BETA_NAMES, "anthropic-version")
_QUERY: Final = {"api-version": re.compile(_LABEL), "beta": re.compile("true|false")}
_UPGRADE: Final = ("connection", "upgrade")

# What an upstream may say to the caller beside the body, and how.
_RATES: Final = {
    **{
        f"x-ratelimit-{what}-{of}": _DURATION if what == "reset" else _COUNT
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    },
    **{
        f"anthropic-ratelimit-{of}-{what}": _INSTANT if what == "reset" else _COUNT
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    },
}
_RELEASED: Final = _compiled(
    {
        "cache-control": _listed(_CACHE, 8),
        "connection": "close|keep-alive",
        "content-length": r"[0-9]{1,18}",
        "content-type": _TYPES + "(?:; ?charset=(?:utf-8|UTF-8))?",
        "date": _HTTP_DATE,
        "openai-processing-ms": r"[0-9]{1,9}",
        "openai-version": _DAY,
        "request-id": _LABEL,
        "retry-after": rf"[0-9]{{1,9}}|{_HTTP_DATE}",
        "retry-after-ms": r"[0-9]{1,9}(?:\.[0-9]{1,6})?",
        "x-should-retry": "true|false",
        **_RATES,
    }
)
_KNOWN_TYPE: Final = re.compile(_TYPES)


@dataclass(frozen=True, slots=True)
class Passing:
    """What a caller says to the model beside the body, in their own choice of a label: it goes on record."""

    query: tuple[tuple[str, str], ...] = ()
    betas: tuple[str, ...] = ()
    emergency: str = ""
    """Why people should not be asked now (``x-affidavit-break-glass``). It stays here: on record, if it counts."""


def read_passing(path: str, headers: Headers) -> Passing:
    """Read the query and the features asked for.

    Raises:
        UnsupportedContent: the query holds another key than those known, or a value of another form.
        BadBreakGlass: the reason for not asking people is none, or there are two.
        BadHeaders: a header that changes what is asked for is repeated or of another form.
    """
    emergency = _values(headers, BREAK_GLASS)
    if len(emergency) > 1 or not all(_REASON.fullmatch(one) for one in emergency):
        raise BadBreakGlass
    for name in _MEANT:
        values = _values(headers, name)
        if len(values) > 1:
            raise BadHeaders("repeated")
        if values and values[0] and not _FORWARDED[name].fullmatch(values[0]):
            raise BadHeaders(name)
    said = [value.decode("ascii") for name in _BETA_NAMES for value in _values(headers, name) if value]
    betas = tuple(one.removeprefix(" ") for value in said for one in value.split(","))
    if len(betas) > BETAS_MAX:
        raise BadHeaders("betas")
    return Passing(_query(path.partition("?")[2]), betas, emergency[0].decode("ascii") if emergency else "")


def _query(text: str) -> tuple[tuple[str, str], ...]:
    """The query as it stands, nothing decoded: what needs an escape is in no form."""
    if not text:
        return ()
    pairs = tuple((name, value) for name, _, value in (part.partition("=") for part in text.split("&")))
    known = all(name in _QUERY and _QUERY[name].fullmatch(value) for name, value in pairs)
    if not known or len(dict(pairs)) != len(pairs):
        raise UnsupportedContent("query")
    return pairs


def not_forwarded(headers: Headers, *, is_upgrade: bool = False) -> tuple[str, ...]:
    """Names of the request fields that do not go on to the upstream (the caller's credential among them)."""
    return _unfit(_FORWARDED, headers, is_upgrade=is_upgrade)


def not_released(headers: Headers, *, is_upgrade: bool = False) -> tuple[str, ...]:
    """Names of the response fields that do not reach the caller."""
    return _unfit(_RELEASED, headers, is_upgrade=is_upgrade)


def bare_type(headers: Headers) -> str | None:
    """The answer's media type without its parameters, where those are in no form; None where nothing is to be done."""
    values = _values(headers, "content-type")
    if len(values) != 1 or _RELEASED["content-type"].fullmatch(values[0]):
        return None
    bare = values[0].decode("latin-1").partition(";")[0].strip().lower()
    return bare if _KNOWN_TYPE.fullmatch(bare) else None


def smuggled(headers: Headers) -> tuple[str, ...]:
    """Names in an answer that Envoy should have taken off before the gate, and lets nobody take off now."""
    return tuple(
        sorted(
            {
                name
                for name, value in headers
                if is_untouchable(name)
                and not name.startswith(":")
                and (name, value.lower()) != ("transfer-encoding", b"chunked")
            }
        )
    )


def is_untouchable(name: str) -> bool:
    """Would Envoy refuse to take this off?"""
    return _UNTOUCHABLE.fullmatch(name) is not None


def _unfit(forms: dict[str, re.Pattern[bytes]], headers: Headers, *, is_upgrade: bool) -> tuple[str, ...]:
    names = {name for name, _ in headers if not is_untouchable(name) and not (is_upgrade and _is_handshake(name))}
    return tuple(sorted(name for name in names if not _fits(forms.get(name), _values(headers, name))))


def _fits(form: re.Pattern[bytes] | None, values: list[bytes]) -> bool:
    """Is it said once, and in its form? Said twice it would be twice as much room, and nobody says it twice."""
    return form is not None and len(values) == 1 and form.fullmatch(values[0]) is not None


def _is_handshake(name: str) -> bool:
    return name in _UPGRADE or name.startswith("sec-websocket-")


def _values(headers: Headers, name: str) -> list[bytes]:
    return [value for key, value in headers if key == name]
