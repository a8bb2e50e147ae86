r"""JSON text that comes in pieces (a tool call's arguments), masked string by string. Pure; itself a masker.

What the caller joins must be JSON again, and what is scanned must be what a reader of it will see: strings are undone
(``\u0040``, ``\"``), scanned, and written again. Strings come out as they go in; what stands between two strings
comes out when the next one begins, so that a number is looked at whole. What turns out to be no JSON is text from the
last string on, read after what stood before it: a key that went out says what a value without quotes is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from ext_proc.protocols.document import NESTED_LEVELS, pointer, told_by
from ext_proc.protocols.json_text import DEPTH_MAX
from ext_proc.protocols.streaming.masking import StreamRefused, Within, fed, finished, flushed
from ext_proc.protocols.streaming.strings import StringPieces, number_in, unsaid

if TYPE_CHECKING:
    from ext_proc.protocols.streaming.maskers import Maskers
    from ext_proc.protocols.streaming.masking import Masker

KEY_MAX: Final = 1024
"""A key is held until it has ended: it is masked whole, and says what its value is."""
_BLANKS: Final = " \t\r\n"
_TOKEN_MAX: Final = 512
_HELD_MAX: Final = 4096
_BEFORE_MAX: Final = 256
"""Of what went out: as much as text that comes after it is read with."""

_SPACE: Final = re.compile(r"[ \t\r\n]+")
_TOKEN: Final = re.compile(r"[-+.0-9A-Za-z]+")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")

# What may come next.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _COMMA_OR_END, _END = range(7)
_CLOSES: Final = {"}": ("{", (_KEY_OR_END, _COMMA_OR_END)), "]": ("[", (_VALUE_OR_END, _COMMA_OR_END))}


class JsonPieces(Within):
    """A masker of text that may be JSON: its strings, keys and numbers are masked one by one.

    Args:
        maskers: makes the maskers.
        path: the text's own; those of its strings begin with it.
        context: the key that the text stands under.
        levels: how often JSON may be a string in JSON before it is just text.
    """

    def __init__(self, maskers: Maskers, path: str, context: str, levels: int = NESTED_LEVELS) -> None:
        self._maskers = maskers
        self._path = path
        self._context = context
        self._levels = levels
        self._blank = ""  # what came before it was known whether this is JSON
        self._is_text = False  # it is not
        self._text: Masker | None = None
        self._begun = ""  # where that was seen late: what it begins with
        self._before = ""  # and the end of what went out until then, and which of it its masker has not said again
        self._again = ""
        self._is_json = False
        self._stack: list[tuple[str, str, dict[str, int]]] = []  # bracket, path so far, masked keys and how often
        self._keys: list[str] = []  # the key that each open object is at
        self._told: list[str] = []  # what says what its value is, or what an array stands under
        self._next = _VALUE
        self._token = ""
        self._held_in: list[str] = []  # what stands between strings: as it came, and as it may pass
        self._held_out: list[str] = []
        self._held_size = 0
        self._is_in_string = False
        self._value: Masker | None = None  # of the string that is open; None for a key
        self._key = ""
        self._string = StringPieces()

    def feed(self, text: str) -> str:
        """See `Masker.feed`.

        Raises:
            StreamRefused: nested too deeply, or a key without end, or blocked.
        """
        if not self._is_json and not self._is_text:
            text = self._told_apart(text)
        out: list[str] = []
        at, end = 0, len(text)
        while at < end and not self._is_text:
            at = self._inside(text, at, out) if self._is_in_string else self._between(text, at, out)
        said = "".join(out)
        if not self._is_text:
            self._before = (self._before + said)[-_BEFORE_MAX:]
            return said
        self._before += said
        return said + self._as_text(text[at:])

    def finish(self) -> str:
        """See `Masker.finish`. Nothing is closed that was left open: the reader shall see that it was cut short.

        Raises:
            StreamRefused: blocked.
        """
        if self._is_in_string:
            return self._end_in_string()
        if self._token and not self._end_token():
            self._to_text()
        if self._is_text:
            said, masker = self._as_text(""), self._text
            return said if masker is None else said + self._new(finished(masker))
        return self._blank + "".join(self._held_out)

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`: of the string that is open. What stands between strings, and a key, must wait.

        Raises:
            StreamRefused: blocked.
        """
        if self._text is not None:
            return self._new(flushed(self._text))
        return _escaped(flushed(self._value)) if self._is_in_string and self._value is not None else ""

    def _told_apart(self, text: str) -> str:
        """The text from where it is known whether it is JSON; "" as long as it is not."""
        text = self._blank + text
        said = text.lstrip(_BLANKS)
        blanks = len(text) - len(said)
        if not said and blanks <= _HELD_MAX:
            self._blank = text
            return ""
        self._blank = ""
        if blanks <= _HELD_MAX and said[0] in "{[" and self._levels:
            self._is_json = True
        else:
            self._is_text = True
        return text

    # No JSON -------------------------------------------------------------------------------------------------------

    def _to_text(self) -> None:
        """It is no JSON: what is held, and all that comes, is text."""
        self._is_text = True
        self._begun = "".join(self._held_in) + self._token
        self._held_in, self._held_out, self._token = [], [], ""

    def _as_text(self, text: str) -> str:
        """The next piece of it. Its masker is told first what went out before, as that would go out by itself."""
        said = ""
        if self._text is None:
            before = self._before[-_BEFORE_MAX:]
            self._again = self._maskers.as_it_goes_out(self._path, self._context, before) if before else ""
            self._text = self._maskers.piecewise(self._path, self._context, begins_at=len(self._again))
            self._before = ""
            if self._again:
                said = self._new(fed(self._text, self._again))
        begun, self._begun = self._begun, ""
        return said + self._new(fed(self._text, begun + text))

    def _new(self, out: str) -> str:
        """``out`` without what went out before."""
        if self._again:
            self._again, out = unsaid(self._again, out)
        return out

    # Between strings -----------------------------------------------------------------------------------------------

    def _between(self, text: str, at: int, out: list[str]) -> int:
        found = _TOKEN.match(text, at)
        if found:
            self._token += found[0]
            if len(self._token) > _TOKEN_MAX or self._next not in (_VALUE, _VALUE_OR_END):
                self._to_text()
            return found.end()
        if self._token and not self._end_token():
            self._to_text()
            return at
        found = _SPACE.match(text, at)
        if found:
            blank = found[0][: _HELD_MAX + 1 - self._held_size]  # whatever the pieces, the same is held
            self._hold(blank, out)
            return at + len(blank)
        return self._mark(text, at, out)

    def _mark(self, text: str, at: int, out: list[str]) -> int:
        """A bracket, a comma, a colon, a quote; anything else is no JSON."""
        mark = text[at]
        if mark == '"' and self._next in (_KEY, _KEY_OR_END, _VALUE, _VALUE_OR_END):
            self._open_string(out)
            return at + 1
        if mark in "{[" and self._next in (_VALUE, _VALUE_OR_END):
            self._open(mark)
        elif mark in "}]" and self._stack and self._closes(mark):
            self._stack.pop()
            self._keys.pop()
            self._told.pop()
            self._value_over()
        elif mark == "," and self._next == _COMMA_OR_END:
            self._next = _KEY if self._stack[-1][0] == "{" else _VALUE
        elif mark == ":" and self._next == _COLON:
            self._next = _VALUE
        else:
            self._to_text()
            return at
        self._hold(mark, out)
        return at + 1

    def _closes(self, mark: str) -> bool:
        opening, when = _CLOSES[mark]
        return self._stack[-1][0] == opening and self._next in when

    def _open(self, mark: str) -> None:
        if len(self._stack) > DEPTH_MAX:
            raise StreamRefused("stream_too_deep")
        self._stack.append((mark, self._here, {}))
        self._told.append("" if mark == "{" else self._nearest)
        self._keys.append("")
        self._next = _KEY_OR_END if mark == "{" else _VALUE_OR_END

    def _value_over(self) -> None:
        self._next = _COMMA_OR_END if self._stack else _END

    @property
    def _nearest(self) -> str:
        return self._told[-1] if self._told else ""

    @property
    def _here(self) -> str:
        """The path of the value that comes next. Arrays are not counted: this is to say where, not to find it again."""
        if not self._stack:
            return self._path
        mark, path, _ = self._stack[-1]
        return f"{path}/{pointer(self._keys[-1])}" if mark == "{" else f"{path}/*"

    def _end_token(self) -> bool:
        """Was it a number, or one of JSON's three words?"""
        token = self._token
        if token not in ("true", "false", "null") and not _NUMBER.fullmatch(token):
            return False
        self._token = ""
        self._held_in.append(token)
        self._held_out.append(self._number(token) if token[0] not in "tfn" else token)
        self._held_size += len(token)
        self._value_over()
        return True

    def _number(self, token: str) -> str:
        out = token
        for text in number_in(token, self._nearest):  # of several, the last that is edited stands
            said = self._maskers.whole(self._here, self._nearest, text)
            if said != text:
                out = json.dumps(said, ensure_ascii=False)
        return out

    def _hold(self, said: str, out: list[str]) -> None:
        self._held_in.append(said)
        self._held_out.append(said)
        self._held_size += len(said)
        if self._held_size > _HELD_MAX:  # a long list of numbers, each of which was looked at
            self._release(out)

    def _release(self, out: list[str]) -> None:
        out.extend(self._held_out)
        self._held_in, self._held_out, self._held_size = [], [], 0

    # In a string ---------------------------------------------------------------------------------------------------

    def _open_string(self, out: list[str]) -> None:
        self._hold('"', out)
        self._release(out)
        self._is_in_string = True
        if self._next in (_KEY, _KEY_OR_END):
            self._value, self._key = None, ""
        else:
            self._value = JsonPieces(self._maskers, self._here, self._nearest, self._levels - 1)

    def _inside(self, text: str, at: int, out: list[str]) -> int:
        """Undo up to the closing quote, or as far as the text goes."""
        said, at, is_over = self._string.feed(text, at)
        self._take(said, out)
        if is_over:
            self._close_string(out)
        return at

    def _take(self, text: str, out: list[str]) -> None:
        if not text:
            return
        if self._value is not None:
            out.append(_escaped(self._value.feed(text)))
            return
        self._key += text
        if len(self._key) > KEY_MAX:
            raise StreamRefused("stream_too_deep")

    def _close_string(self, out: list[str]) -> None:
        self._is_in_string = False
        if self._value is not None:
            out.append(_escaped(self._value.finish()))
            self._value_over()
        else:
            out.append(_escaped(self._masked_key()))
            self._keys[-1] = self._key
            self._told[-1] = told_by(self._told[-2] if len(self._told) > 1 else "", self._key)
            self._next = _COLON
        self._hold('"', out)

    def _masked_key(self) -> str:
        """The key as it may pass; two that are masked alike stay two."""
        _, path, seen = self._stack[-1]
        said = self._maskers.whole(path, "", self._key)
        if said != self._key:
            seen[said] = seen.get(said, 0) + 1
            if seen[said] > 1:
                return f"{said}_{seen[said]}"
        return said

    def _end_in_string(self) -> str:
        out: list[str] = []
        self._take(self._string.finish(), out)
        out.append(_escaped(self._masked_key() if self._value is None else self._value.finish()))
        return "".join(out)


def _escaped(text: str) -> str:
    """The inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1] if text else ""
