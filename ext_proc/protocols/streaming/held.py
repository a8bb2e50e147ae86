"""Maskers of texts in pieces that field rules are about. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.protocols.field_json import BLANKS, json_in
from ext_proc.protocols.streaming.masking import StreamRefused, Within, fed, finished, flushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.protocols.streaming.masking import Masker

HELD_MAX: Final = 256 * 1024
"""Characters of JSON that are held; an answer with more of it in one text ends."""
_BLANKS_MAX: Final = 4096
"""Before a text that may yet be JSON; an answer with more ends, whatever follows them, and however it is cut."""


class HeldJson(Within):
    """Holds a text that may be JSON to its end; what is seen to be none goes on as it comes.

    Args:
        of_text: makes the masker of a text that is no JSON.
        of_unreadable: makes that of one that only a careless reader takes for JSON, or that was cut off.
        of_tree: makes of a JSON text, in a list of one, what may pass; raises `StreamRefused` if nothing may.
    """

    def __init__(
        self,
        of_text: Callable[[], Masker],
        of_unreadable: Callable[[], Masker],
        of_tree: Callable[[list[Any]], str],
    ) -> None:
        self._of_text = of_text
        self._of_unreadable = of_unreadable
        self._of_tree = of_tree
        self._held: list[str] = []
        self._size = 0
        self._is_json = False
        self._may_be_json = True
        self._text: Masker | None = None

    @property
    def is_blank(self) -> bool:
        """Came nothing but blanks so far?"""
        return self._text is None and not self._is_json

    def stay_text(self, of_text: Callable[[], Masker]) -> None:
        """What comes is no JSON to be held, however it begins; ``of_text`` makes its masker."""
        self._may_be_json, self._of_text = False, of_text

    def feed(self, text: str) -> str:
        """See `Masker.feed`.

        Raises:
            StreamRefused: too much is held, or a rule blocks.
        """
        if self._text is not None:
            return fed(self._text, text)
        self._held.append(text)
        self._size += len(text)
        if self._is_json:
            if self._size > HELD_MAX:
                raise StreamRefused("stream_json_too_large")
            return ""
        said = "".join(self._held)
        begun = said.lstrip(BLANKS)
        if self._may_be_json and self._size - len(begun) > _BLANKS_MAX:
            raise StreamRefused("stream_json_too_large")
        if self._may_be_json and begun[:1] in ("{", "["):
            self._is_json = True
        elif begun or not self._may_be_json:
            self._text = self._of_text()
            return fed(self._text, said)
        self._held = [said]
        return ""

    def finish(self) -> str:
        """See `Masker.finish`.

        Raises:
            StreamRefused: a rule blocks.
        """
        if self._text is not None:
            return finished(self._text)
        said = "".join(self._held)
        if not said.strip(BLANKS):
            return said
        found = json_in(said)
        if isinstance(found, list):
            return self._of_tree(found)
        self._text = self._of_text() if found is None else self._of_unreadable()
        return fed(self._text, said) + finished(self._text)

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`: JSON must wait.

        Raises:
            StreamRefused: a rule blocks.
        """
        return "" if self._text is None else flushed(self._text)


class PassThrough(Within):
    """A text that a rule excludes from the scan.

    Args:
        excluded: told how many bytes went through.
    """

    def __init__(self, excluded: Callable[[int], None]) -> None:
        self._excluded = excluded

    def feed(self, text: str) -> str:
        """See `Masker.feed`."""
        self._excluded(len(text.encode(errors="replace")))
        return text

    def finish(self) -> str:
        """See `Masker.finish`."""
        return ""

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`."""
        return ""
