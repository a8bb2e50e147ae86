"""Words and numbers that a policy knows, read from its data and its sources.

A check that asks only about models and groups of which a policy has never heard sees one answer: no. These words are
candidates and no more, so reading them does not need to understand Rego; what each is good for comes out by asking.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

WORDS_MAX: Final = 80
NUMBERS_MAX: Final = 16
_DEPTH_MAX: Final = 12
_COMMENT: Final = re.compile(r"^\s*#.*$", re.MULTILINE)
_TEXT: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`')
_NUMBER: Final = re.compile(r"(?<![\w.\"])(\d+(?:\.\d+)?)(?![\w.\"])")
_LOOKED_UP: Final = re.compile(r"data\.([\w.]+)\[input\.([\w.]+)\]")
_COMPARED: Final = re.compile(r'input\.([\w.]+)\s*[=!]=\s*"([^"\\\n]*)"')
_GROUP: Final = re.compile(r"^.*\bgroups\b.*$", re.MULTILINE)
"""A line of a rule that is about groups: what it quotes may be one."""
_NETWORK: Final = re.compile(r"[0-9a-fA-F.:]+/\d{1,3}")
_ENTITY: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(slots=True)
class Vocabulary:
    """Candidates: words at large, by field of the question (``request.model``), entities, networks, numbers.

    ``groups`` are those of the data, ``groups_of_rules`` those that rules name (`"x" in input.identity.groups`).
    """

    words: list[str] = field(default_factory=list)
    by_field: dict[str, list[str]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    groups_of_rules: list[str] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)


def read(folder: Path) -> Vocabulary:
    """What the sources and data below a folder know; tests and schemas are not the policy.

    Raises:
        ConfigError: a data file is not JSON or YAML.
    """
    made = Vocabulary()
    data = _data(folder)
    for path in sorted(folder.rglob("*.rego")):
        if not path.name.endswith("_test.rego"):
            _read_source(made, _COMMENT.sub("", path.read_text(errors="replace")), data)
    words, groups = list(_words(data, 0)), list(_groups(data))
    every = [*made.words, *words]
    made.groups = _first(groups)
    made.groups_of_rules = _first(word for word in made.groups_of_rules if _is_a_name(word))
    made.entities = _first(word for word in every if _ENTITY.fullmatch(word))
    made.networks = _first(word for word in every if _NETWORK.fullmatch(word))
    made.words = _first(word for word in [*words, *made.words] if _is_a_name(word))
    made.numbers = sorted({*made.numbers, *_numbers(data, 0)})[:NUMBERS_MAX]
    return made


def _read_source(made: Vocabulary, text: str, data: Any) -> None:
    made.words += _quoted(text)
    made.groups_of_rules += [word for line in _GROUP.findall(text) for word in _quoted(line)]
    made.numbers += [_number(one) for one in _NUMBER.findall(_TEXT.sub("", text))]
    for path, name in _LOOKED_UP.findall(text):
        found = data
        for step in path.split("."):
            found = found.get(step, {}) if isinstance(found, dict) else {}
        made.by_field.setdefault(name, []).extend(found if isinstance(found, dict) else ())
    for name, word in _COMPARED.findall(text):
        made.by_field.setdefault(name, []).append(word)


def _quoted(text: str) -> list[str]:
    return [one or other for one, other in _TEXT.findall(text)]


def _data(folder: Path) -> dict[str, Any]:
    """All data files as OPA joins them: each below the names of its folders."""
    whole: dict[str, Any] = {}
    for path in sorted((*folder.rglob("data.json"), *folder.rglob("data.yaml"))):
        try:
            text = path.read_text()
            read_ = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}") from None
        at = whole
        for name in path.relative_to(folder).parts[:-1]:
            at = at.setdefault(name, {})
        _join(at, read_ if isinstance(read_, dict) else {})
    return whole


def _join(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _join(into[name], value)
        else:
            into[str(name)] = value


def _words(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _DEPTH_MAX and isinstance(value, dict):
        for name, one in value.items():
            yield str(name)
            yield from _words(one, depth + 1)
    elif depth < _DEPTH_MAX and isinstance(value, list):
        for one in value:
            yield from _words(one, depth + 1)


def _numbers(value: Any, depth: int) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif depth < _DEPTH_MAX and isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one, depth + 1)


def _groups(value: Any) -> Iterator[str]:
    """Words under a name with `group` in it: who may do something."""
    if not isinstance(value, dict):
        return
    for name, one in value.items():
        if "group" in str(name):
            yield from (word for word in _words(one, 0) if _is_a_name(word))
        else:
            yield from _groups(one)


def _is_a_name(word: str) -> bool:
    return 0 < len(word) <= 128 and " " not in word


def _first(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))[:WORDS_MAX]


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)
