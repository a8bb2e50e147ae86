"""Pages out of templates. Whatever is put into one is text: always escaped. A name that is not there is an error."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from ext_proc.approval.hold import JUSTIFICATION_MAX, OBJECTIONS
from ext_proc.console import drawing
from ext_proc.console.asking import PURPOSE_MAX
from ext_proc.console.routes import BY_NAME, NAVIGATION, is_for
from ext_proc.model import HoldState

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ext_proc.console.guard import Visitor
    from ext_proc.console.routes import Route
    from ext_proc.console.seen import HoldLine
    from ext_proc.console.trouble import Trouble

_KINDS: Final = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
_SHORT: Final = 8
_REFERENCE: Final = re.compile(r"hmac-sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file for browsers, under an address that changes with it."""

    address: str
    content_type: str
    body: bytes


class Pages:
    """Renders templates."""

    def __init__(self) -> None:
        self._environment, self.files = _made()

    def page(self, route: Route, visitor: Visitor | None, now: datetime, answer: Any, **more: Any) -> str:
        """What a route shows.

        Args:
            route: with a template.
            visitor: for whom.
            now: the time.
            answer: of the route's view.
            more: what else the template wants.
        """
        assert route.template is not None  # noqa: S101 - the table has it
        return self._rendered(route.template, route.name, visitor, now, {"answer": answer, **more})

    def trouble(self, trouble: Trouble, visitor: Visitor | None, now: datetime) -> str:
        """What is shown instead."""
        return self._rendered("trouble.html", "", visitor, now, {"trouble": trouble})

    def plain(self, template: str, visitor: Visitor | None, now: datetime, **more: Any) -> str:
        """A page that shows nothing of anybody."""
        return self._rendered(template, "", visitor, now, more)

    def _rendered(self, template: str, name: str, visitor: Visitor | None, now: datetime, more: dict[str, Any]) -> str:
        roles = visitor.viewer.roles if visitor else frozenset()
        navigation = [
            (BY_NAME[target].path, label, target == name or (name in _BELOW.get(target, ())))
            for target, label in NAVIGATION
            if visitor and is_for(BY_NAME[target], roles)
        ]
        return self._environment.get_template(template).render(
            viewer=visitor.viewer if visitor else None,
            csrf=visitor.csrf if visitor else "",
            navigation=navigation,
            now=now,
            **more,
        )


_BELOW: Final = {
    "inbox": ("hold", "hold_clear", "resolve"),
    "exchanges": ("exchange", "payloads", "verify_one"),
}


@cache
def _made() -> tuple[Environment, dict[str, StaticFile]]:
    """Templates, compiled once in a process, and the files beside them."""
    made = Environment(
        loader=PackageLoader("ext_proc.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(when=when, clock_time=clock_time, machine=machine, lasting=lasting, short=short, number=number)
    made.filters.update(short_person=short_person, answered_so=answered_so)
    made.tests.update(reference=is_reference)
    files = {name: _static(name, kind) for name, kind in _KINDS.items()}
    made.globals.update(
        static={name: file.address for name, file in files.items()},
        OBJECTIONS=OBJECTIONS,
        JUSTIFICATION_MAX=JUSTIFICATION_MAX,
        PURPOSE_MAX=PURPOSE_MAX,
        drawn=drawing.drawn,
    )
    return made, files


def _static(name: str, kind: str) -> StaticFile:
    body = resources.files("ext_proc.console").joinpath("static", name).read_bytes()
    return StaticFile(f"/static/{hashlib.sha256(body).hexdigest()[:16]}/{name}", kind, body)


# How things are written ----------------------------------------------------------------------------------------------


def when(at: datetime) -> str:
    """A time for people, in UTC: evidence has one clock."""
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def clock_time(at: datetime) -> str:
    """Within a day, to the millisecond."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def machine(at: datetime) -> str:
    """For an attribute `datetime`."""
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def lasting(span: timedelta | float) -> str:
    """How long, in the two largest units."""
    seconds = int(span if isinstance(span, int | float) else span.total_seconds())
    if seconds < 0:
        return f"{lasting(-seconds)} ago"
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    told = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(told[:2]) or "0 s"


def short(text: str) -> str:
    """The beginning of a long id or digest, without the kind before a colon; the whole stands in a title."""
    value = text.rpartition(":")[2]
    return value if len(value) <= _SHORT + 2 else f"{value[:_SHORT]}…"


def is_reference(text: str) -> bool:
    """Somebody, as records have them: nobody's name."""
    return _REFERENCE.fullmatch(text) is not None


def short_person(text: str) -> str:
    """A name as it is, a reference by its beginning."""
    return short(text) if is_reference(text) else text


def answered_so(line: HoldLine) -> str:
    """What the viewer said of a hold, and what it waits for; nothing, if they said nothing."""
    if line.answered is None:
        return ""
    if line.answered == "deny":
        return "You have denied this."
    left = line.needed - line.given
    if line.state is not HoldState.PENDING or left < 1:
        return "You have agreed."
    return f"You have agreed; {left} more {'person' if left == 1 else 'people'} must agree."


def number(value: int) -> str:
    """With thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")
