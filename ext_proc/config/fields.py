"""What sections and their fields are made of: forms of text, bounds, and the strictness of all of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import core_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

SOCKET_PATH_BYTES_MAX: Final = 107
"""Of a Unix socket's address in Linux (108 with the ending zero); longer ones cannot be listened on."""

# What Envoy does not let the gate set: the same list is in envoy/bootstrap.yaml (mutation_rules).
_NOT_SETTABLE: Final = ("host", "transfer-encoding", "content-length", "content-type", "x-request-id")
_NOT_SETTABLE_PREFIXES: Final = ("x-forwarded-", "x-envoy-", "x-affidavit-")


_UNIX: Final = "unix:"
_EVERYWHERE: Final = {"0.0.0.0", "[::]"}  # noqa: S104 - compared, not listened on


def once(problem: str, values: Iterable[str]) -> None:
    """No value twice. Raises ValueError with the problem and the value."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{problem} {twice[0]}")


def check_apart(addresses: Mapping[str, str]) -> None:
    """No two of the fields listen at one address. Raises ValueError that names both."""
    listening = {field: address for field, address in addresses.items() if socket_of(address) is None}
    for (one, address), (other, at) in combinations(listening.items(), 2):
        (host, _, port), (its_host, _, its_port) = address.rpartition(":"), at.rpartition(":")
        if int(port) == int(its_port) and (host == its_host or _EVERYWHERE & {host, its_host}):
            raise ValueError(f"{other}: {at} is that of {one}")


def socket_of(address: str) -> Path | None:
    """The Unix socket of an address that may be one; None: it is host and port."""
    return Path(address.removeprefix(_UNIX)) if address.startswith(_UNIX) else None


def with_port(address: str) -> str:
    """An address whose port there can be."""
    if not 1 <= int(address.rpartition(":")[2]) <= 65535:
        raise ValueError("the port must be between 1 and 65535")
    return address


def _port_or_socket(address: str) -> str:
    socket = socket_of(address)
    if socket is None:
        return with_port(address)
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
        raise ValueError(f"too long, a socket's path must have at most {SOCKET_PATH_BYTES_MAX} bytes")
    return address


def _settable(header: str) -> str:
    if header in _NOT_SETTABLE or header.startswith(_NOT_SETTABLE_PREFIXES):
        raise ValueError("this header cannot hold a credential")
    return header


class Like:
    """A text that matches ``pattern`` whole; whoever wrote another is told what is ``wanted``, in words.

    The pattern is in the JSON Schema too (the chart's), where it is one that every reader of schemas knows: RE2's.
    """

    def __init__(self, pattern: str, wanted: str) -> None:
        self._form = re.compile(pattern)
        self._wanted = wanted

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(inner)
        pattern = self._form.pattern
        return made if "(?!" in pattern else {**made, "pattern": f"^(?:{pattern})$"}

    def _check(self, text: str) -> str:
        if not self._form.fullmatch(text):
            raise ValueError(f"must be {self._wanted}")
        return text


PositiveSeconds = Annotated[float, Field(gt=0, le=31_536_000)]
"""A year at most: longer than a clock or a timer can count is no time."""
Bytes = Annotated[int, Field(gt=0)]
NAME: Final = r"[a-z][a-z0-9-]{0,62}"
Name = Annotated[str, Like(NAME, "a letter, then letters, digits and dashes: in lower case, 63 at most")]
Address = Annotated[
    str, Like(r"[^\s:]+:[0-9]{1,5}", "host:port, for example 127.0.0.1:8080"), AfterValidator(with_port)
]
AddressOrSocket = Annotated[
    str,
    Like(
        r"[^\s:]+:[0-9]{1,5}|unix:/\S+",
        "host:port, for example 127.0.0.1:9901, or a Unix socket's path: unix:/run/envoy/admin.sock",
    ),
    AfterValidator(_port_or_socket),
]
Text = Annotated[str, Field(min_length=1)]
HostPattern = Annotated[
    str,
    Like(
        r"\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*",
        "a host name in lower case without a port, *.example.com for any below, or * for any",
    ),
]
HostName = Annotated[
    str, Like(r"[a-z0-9-]+(\.[a-z0-9-]+)*", "a host name in lower case without a port, for example api.example.com")
]
HeaderName = Annotated[
    str, Like(r"[a-z0-9-]+", "a header's name in lower case, for example x-api-key"), AfterValidator(_settable)
]

A_PATH: Final = "a path that begins with a slash, of letters, digits and . _ ~ - /, without a query"
MIB: Final = 1024 * 1024

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip

ProtocolName = Literal[
    "openai.chat",
    "openai.completions",
    "openai.responses",
    "openai.embeddings",
    "openai.models",
    "anthropic.messages",
    "anthropic.count_tokens",
    "generic",
    "opaque",
]


class Section(BaseModel):
    """A part of the file: nothing in it that is not known, each value of its type, nothing that can be changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
