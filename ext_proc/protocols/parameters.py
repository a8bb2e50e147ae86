"""What a caller asks for beside text: known parameters, each of its API's type or refused. Pure.

The policy bounds what it is told of. A value of another type (``"max_tokens": "100000"``: some upstreams read the text)
is refused where the API is known; where it is not (generic), the policy is told a text that is no number, so that no
limit takes it for small. No text of the caller's goes on record from here: a word that no API knows is ``unlisted``.
"""

from __future__ import annotations

from typing import Any, Final

from ext_proc.errors import BadBody
from ext_proc.protocols import shapes
from ext_proc.protocols.parts import SETTINGS, TEXTS_AT, count_media

UNLISTED: Final = "unlisted"
_COUNTS: Final = (
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "n_predict",  # llama.cpp's own, which counts above the others
    "dimensions",
)
_NUMBERS: Final = ("temperature", "top_p", "top_k")
_FLAGS: Final = ("stream", "store", "background")
_WORDS: Final = {
    "encoding_format": frozenset({"float", "base64"}),
    "reasoning_effort": frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"}),
    "service_tier": frozenset({"auto", "default", "fast", "flex", "priority", "scale", "standard_only"}),
}
_NUMBER_MAX: Final = 2**63 - 1
"""An int64, which is what the APIs' counts are."""
GENERIC: Final = "generic"
_RESPONSES: Final = "openai.responses"

Parameter = int | float | str | bool | None


def parameters(protocol: str, body: Any) -> dict[str, Parameter]:
    """The known parameters that are there, and how much of what the body holds.

    Raises:
        BadBody: one is not of its type.
    """
    made: dict[str, Parameter] = {}
    if isinstance(body, dict):
        for name, read in _READERS.items():
            if name in body:
                made[name] = _read(protocol, body[name], name, read)
    return made | {
        "message_count": len(shapes.items(body, "input" if protocol == _RESPONSES else "messages")),
        "tool_count": len(shapes.items(body, "tools")),
        "media_count": count_media(body),
    }


def _read(protocol: str, value: Any, name: str, read: Any) -> Parameter:
    if value is None:  # a provider takes it as left out
        return None
    try:
        made: Parameter = read(name, value)
    except ValueError:
        if protocol == GENERIC:
            return UNLISTED
        raise BadBody("parameter_type") from None
    return made


def _count(_name: str, value: Any) -> int:
    found = _number(_name, value)
    if found < 0 or found != int(found):  # 5.0 is five to whoever reads it next; -1 is "no limit" to some
        raise ValueError
    return int(found)


def _number(_name: str, value: Any) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _NUMBER_MAX:
        raise ValueError
    return value


def _flag(_name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - caught above with the others
    return value


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - as above
    return value if value in _WORDS[name] else UNLISTED


_READERS: Final = {
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_FLAGS, _flag),
    **dict.fromkeys(_WORDS, _word),
}

_KNOWN: Final = frozenset({"model", "messages", *_READERS, *SETTINGS, *TEXTS_AT})


def _squeezed(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "")


_FOLDED: Final = frozenset(name.casefold() for name in _KNOWN)
_SQUEEZED: Final = frozenset(map(_squeezed, _KNOWN))


def refuse_ambiguous_keys(protocol: str, body: dict[str, Any]) -> None:
    """Refuse what another reader could take for a key that we look at: Go's takes "Max_Tokens", protobuf's "maxTokens".

    Raises:
        BadBody: a key is there twice but for its case, or is a known one but for its case or its underscores.
    """
    if len({key.casefold() for key in body}) != len(body):
        raise BadBody("key_repeated")  # the last one of both may count
    for key in body:
        if key in _KNOWN:
            continue
        # A generic service may have camelCase names of its own.
        if key.casefold() in _FOLDED or (protocol != GENERIC and _squeezed(key) in _SQUEEZED):
            raise BadBody("key_case")
