"""Server-sent events, read whole and written again (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from ext_proc.protocols.json_text import JsonError, parse, render

DONE: Final = "[DONE]"
_LINE_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(slots=True)
class Event:
    """One event: its name ("" if none), its data (a JSON value in a list of one), or `DONE`."""

    name: str
    data: list[Any]
    is_done: bool = False


def read_events(body: bytes) -> list[Event]:
    """Every event of a stream that has ended. Comments, ids and retry fields are dropped: they can carry text.

    Raises:
        JsonError: not UTF-8, or an event's data is not JSON.
    """
    try:
        text = body.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    events: list[Event] = []
    name = ""
    data: list[str] = []
    for line in (*_LINE_END.split(text), ""):  # an unfinished last event counts: what was sent must be looked at
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
            continue
        said = "\n".join(data)
        if said:  # empty data is no event
            events.append(Event(name, [said], is_done=True) if said == DONE else Event(name, [parse(said)]))
        name, data = "", []
    return events


def write_events(events: list[Event]) -> bytes:
    """The stream again: one data line an event.

    Raises:
        JsonError: an event's name has a line end, which would begin another field.
    """
    parts: list[str] = []
    for event in events:
        if event.name:
            if _LINE_END.search(event.name):
                raise JsonError("an event's name has a line end")
            parts.append(f"event: {event.name}\n")
        parts.append(f"data: {DONE if event.is_done else render(event.data[0])}\n\n")
    return "".join(parts).encode()
