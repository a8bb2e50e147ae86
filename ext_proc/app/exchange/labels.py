"""What may stand in clear: labels in a record, values in a head. Each is held against its form first, then scanned.

Labels that end in a record (model names, tool names, finish reasons) are ``unlisted`` where they do not look like one,
where a rule hits, and where they cannot be one: a finish reason that no API has, a tool that the caller never offered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from ext_proc.model import Headers
    from ext_proc.redaction import Detector

UNLISTED: Final = "unlisted"

# Of OpenAI's and Anthropic's API references, and of what serves models behind them.
FINISH_REASONS: Final = frozenset(
    {
        "abort", "cancelled", "compaction", "completed", "content_filter", "end_turn", "error", "failed",
        "function_call", "incomplete", "length", "max_output_tokens", "max_tokens", "model_context_window_exceeded",
        "pause_turn", "refusal", "stop", "stop_sequence", "tool_calls", "tool_use",
    }
)  # fmt: skip
_CACHED_MAX: Final = 4096
_CACHED_MAX_BYTES: Final = 256
"""Longer values are not kept: 4,096 of them would be a caller's to choose."""
# What an upstream calls its model and its build: short, and with a digit (gpt-4o-2024-08-06, fp_44709d6fcb).
_VERSIONED: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}")
_TOOL_NAME_MAX: Final = 64
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
# Keys that protocols use: anything else in a channel's path is caller's text and is recorded as ``*``.
_PATH_PART: Final = re.compile(r"[a-z_]{1,32}|[0-9]{1,6}|\+?[a-z]{1,16}")


class Labels:
    """Looks with one detector, and remembers short values: most are the same in every exchange.

    Args:
        detector: finds what may not stand in clear.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.is_clean_kept = lru_cache(maxsize=_CACHED_MAX)(self._is_clean_looked)
        self.is_clean_label = lru_cache(maxsize=_CACHED_MAX)(self._is_clean_text)

    def is_clean(self, said: bytes) -> bool:
        """Nothing to mask in it."""
        return self.is_clean_kept(said) if len(said) <= _CACHED_MAX_BYTES else self._is_clean_looked(said)

    def tainted(self, headers: Headers) -> tuple[str, ...]:
        """Names of the fields that hold what a body would be masked for."""
        named = {name for name, value in headers if not name.startswith(":") and not self.is_clean(value)}
        return tuple(sorted(named))

    def label(self, text: str) -> str:
        """The text if it looks like a label; the form first: it bounds what is kept."""
        return text if _LABEL.fullmatch(text) and self.is_clean_label(text) else UNLISTED

    def versioned(self, said: str | None, requested: str | None) -> str | None:
        """What an upstream says of itself: what it was asked for, or what looks like a version."""
        if said is None or said == requested:
            return said
        return self.label(said) if _VERSIONED.fullmatch(said) else UNLISTED

    def tool_name(self, name: str, offered: frozenset[str]) -> str:
        """A tool that the caller offered."""
        return self.label(name) if name in offered and len(name) <= _TOOL_NAME_MAX else UNLISTED

    def _is_clean_looked(self, said: bytes) -> bool:
        return self._is_clean_text(unquote_plus(said.decode("latin-1")))

    def _is_clean_text(self, text: str) -> bool:
        return not self._detector.scan(text)


def finish_reason(said: str) -> str:
    """Why a model stopped, if an API has that reason."""
    return said if said in FINISH_REASONS else UNLISTED


def public_path(path: str) -> str:
    """A channel's path as it may be on record."""
    return "/".join(part if not part or _PATH_PART.fullmatch(part) else "*" for part in path.split("/"))
