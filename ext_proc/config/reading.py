"""From the file to the configuration, or to words that say which field is wrong and how."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from ext_proc import strict_yaml
from ext_proc.config.fields import NAME
from ext_proc.config.whole import Config
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def load(path: Path) -> tuple[Config, str]:
    """Read a configuration file, and the replica's name where that is in a file of its own.

    Returns:
        The configuration and the file's SHA-256 in lower-case hex.

    Raises:
        ConfigError: unreadable or not valid; ``detail`` names each field and what is wrong with it.
    """
    config, digest = read(path)
    return _named(config), digest


def read(path: Path) -> tuple[Config, str]:
    """The same of the file alone: a pod's configuration can be read where no pod is.

    Raises:
        ConfigError: as `load`.
    """
    try:
        raw = path.read_bytes()
        data = strict_yaml.read(raw)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except strict_yaml.BadYamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not data or not isinstance(data, dict):
        raise ConfigError(f"{path}: empty or not a mapping; see docs/operating.md")
    try:
        config = Config.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explained(error, data)}") from None
    except (TypeError, ValueError, RecursionError):
        where = ".".join(_not_json(data, 0) or ["file"])
        raise ConfigError(f"{path}: {where}: not a value of JSON (a date? put it in quotes)") from None
    return config, hashlib.sha256(raw).hexdigest()


def files_missing(config: Config) -> Iterator[str]:
    """What `load` would refuse here, and `read` does not."""
    try:
        _named(config)
    except ConfigError as error:
        yield f"{error.detail}; nothing starts where it is so (a pod has the file)"


def _named(config: Config) -> Config:
    """With the replica's name from its file, if it is there.

    Raises:
        ConfigError: the file cannot be read, or holds no name.
    """
    path = config.audit.replica_file
    if path is None:
        return config
    try:
        name = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"audit.replica_file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        name = ""
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"audit.replica_file: {path}: must hold a letter, then letters, digits and dashes")
    return config.model_copy(update={"audit": config.audit.model_copy(update={"replica": name})})


_DEPTH_MAX: Final = 32
"""Deeper than any valid file: the search for what JSON cannot carry ends here, also in a file that holds itself."""


def _not_json(value: Any, depth: int) -> list[str] | None:
    """The path to the first value that JSON cannot carry."""
    if depth > _DEPTH_MAX:
        return []
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    elif not isinstance(value, (str, int, float, bool, type(None))):
        return []
    for key, one in inner:
        if not isinstance(key, (str, int)):
            return [str(key)]
        found = _not_json(one, depth + 1)
        if found is not None:
            return [str(key), *found]
    return None


def _explained(error: ValidationError, data: dict[Any, Any]) -> str:
    lines = []
    for found in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in found["loc"]) + _of_connection(data, found["loc"])
        what = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            what = f"unknown field{_guess(found['loc'])}"
        lines.append(f"{where}: {what}" if where else what)
    return "; ".join(lines)


def _of_connection(data: dict[Any, Any], place: tuple[int | str, ...]) -> str:
    """The name of the connection that a place is in: nobody wants to count. Only a valid one, no value by mistake."""
    match place:
        case ("connections", int(number), *_):
            one = data["connections"][number]
            name = one.get("name") if isinstance(one, dict) else None
            return f" (connection {name})" if isinstance(name, str) and re.fullmatch(NAME, name) else ""
        case _:
            return ""


def _guess(place: tuple[int | str, ...]) -> str:
    """What may have been meant by a field that is not there."""
    *steps, last = place
    section: type[BaseModel] = Config
    inside: list[type[BaseModel]] = []
    for step in steps:
        if step in section.model_fields:  # not the number in a list
            inside = _sections_in(section.model_fields[str(step)].annotation)
            section = inside[0] if inside else section
        elif kinds := [one for one in inside if _is_kind(one, str(step))]:
            section = kinds[0]
    near = difflib.get_close_matches(str(last), section.model_fields, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _sections_in(one)]


def _is_kind(section: type[BaseModel], kind: str) -> bool:
    """Of several sections that may stand in one place: is it that one?"""
    field = section.model_fields.get("kind")
    return field is not None and kind in get_args(field.annotation)
