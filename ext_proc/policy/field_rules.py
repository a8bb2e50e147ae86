"""Field rules as authors write them, in a connection's configuration and in a decision: read exactly, or refused. Pure.

A path is a part of RFC 9535 (JSONPath): what can be matched against one value at a time, as it comes in a stream, where
there is no tree to ask. No filters, slices and indexes from the end: those need the whole document.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import Direction, FieldAction, FieldRule, FieldStep, Keep

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH_MAX: Final = 256
STEPS_MAX: Final = 16
NAME_MAX: Final = 64
RULES_MAX: Final = 64
ENTITY: Final = "FIELD"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED: Final = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,5}")
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_FIELDS: Final = {"path", "action", "keep", "name"}
_ACTIONS: Final = {action.value: action for action in FieldAction}
_KEEPS: Final = {keep.value: keep for keep in Keep}
_OF_KEYS: Final = (FieldAction.MASK, FieldAction.HASH, FieldAction.BLOCK)
_NEEDED: Final = {Direction.REQUEST: ("model", "stream"), Direction.RESPONSE: ("model", "usage")}
"""What no call works without, or no record."""


class BadFieldRule(ValueError):
    """No field rule: the text says what is wrong, where, and what to write instead."""


def read_rules(values: Sequence[Any], direction: Direction, source: str) -> tuple[FieldRule, ...]:
    """The rules of one direction.

    Args:
        values: mappings, as read from JSON or YAML.
        direction: which way the bodies travel.
        source: whose they are: ``connection`` or ``decision``.

    Raises:
        BadFieldRule: one is none, or there are too many.
    """
    if len(values) > RULES_MAX:
        raise BadFieldRule(f"{len(values)} rules: at most {RULES_MAX} are taken for one direction")
    return tuple(read_rule(value, direction, source, number) for number, value in enumerate(values, 1))


def read_rule(value: Any, direction: Direction, source: str, number: int) -> FieldRule:
    """The rule in a mapping; ``number`` is what it is called in records if it has no name.

    Raises:
        BadFieldRule: it is none.
    """
    if not isinstance(value, dict) or not {"path", "action"} <= set(value) <= _FIELDS:
        raise BadFieldRule(f"rule {number}: must have path and action, may have keep and name, and nothing else")
    path, action = value["path"], value["action"]
    if not isinstance(path, str):
        raise BadFieldRule(f"rule {number}: path must be a text, for example $.messages[*].content")
    if not isinstance(action, str) or action not in _ACTIONS:
        raise BadFieldRule(f"rule {number}: action must be one of {', '.join(_ACTIONS)}")
    keep, name = value.get("keep", Keep.NONE.value), value.get("name", ENTITY)
    if not isinstance(keep, str) or keep not in _KEEPS:
        raise BadFieldRule(f"rule {number}: keep must be one of {', '.join(_KEEPS)}")
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        raise BadFieldRule(f"rule {number}: name must be of capitals, digits and _, for example CUSTOMER_NUMBER")
    try:
        steps, is_key = parse_path(path)
    except BadFieldRule as bad:
        raise BadFieldRule(f"rule {number}: {bad}") from None
    called = value.get("name", str(number))
    rule = FieldRule(steps, _ACTIONS[action], _KEEPS[keep], is_key, name, f"field:{called}", source)
    _refuse_nonsense(rule, number)
    _refuse_needed(rule, direction, number)
    return rule


def _refuse_nonsense(rule: FieldRule, number: int) -> None:
    if rule.keep is not Keep.NONE and rule.action is not FieldAction.MASK:
        raise BadFieldRule(f"rule {number}: keep goes with the action mask only")
    if rule.is_key and (rule.action not in _OF_KEYS or rule.keep is not Keep.NONE):
        raise BadFieldRule(f"rule {number}: the name of a member (~) can be masked, hashed or blocked, without keep")


def _refuse_needed(rule: FieldRule, direction: Direction, number: int) -> None:
    """No call works without its model: a rule that would take it is a mistake, found before anybody calls."""
    if rule.action in (FieldAction.INCLUDE, FieldAction.EXCLUDE) or len(rule.steps) != 1:
        return
    step = rule.steps[0]
    taken = next((name for name in _NEEDED[direction] if step.index is None and step.name in (None, name)), None)
    if taken:
        raise BadFieldRule(
            f"rule {number}: the path also leads to the {direction.value}'s `{taken}`, which must stay; "
            "begin it further in, for example $.messages.." + (step.name or "*")
        )


@lru_cache(maxsize=1024)
def parse_path(path: str) -> tuple[tuple[FieldStep, ...], bool]:
    """The steps of a path, and whether it is about names of members.

    Raises:
        BadFieldRule: it is none; the text says at which character.
    """
    if len(path) > PATH_MAX:
        raise BadFieldRule(f"path of {len(path)} characters: at most {PATH_MAX}")
    if not path.startswith("$"):
        raise _bad(path, 0, "a path begins with $")
    steps: list[FieldStep] = []
    at, is_key = 1, False
    while at < len(path):
        if path[at] == "~" and at == len(path) - 1 and steps:
            is_key = True
            break
        step, at = _step(path, at)
        steps.append(step)
        if len(steps) > STEPS_MAX:
            raise _bad(path, at, f"at most {STEPS_MAX} steps")
    if not steps:
        raise _bad(path, len(path), "$ is the whole body: name a part of it, for example $.metadata")
    return tuple(steps), is_key


def _step(path: str, at: int) -> tuple[FieldStep, int]:
    is_deep = path.startswith("..", at)
    if is_deep:
        at += 2
    elif path[at] == ".":
        at += 1
    elif path[at] == "~":
        raise _bad(path, at, "~ stands at the end, after a step: the name of the member instead of its value")
    elif path[at] != "[":
        raise _bad(path, at, "a step begins with . or .. or [")
    elif path.startswith("[", at):
        return _bracket(path, at + 1, is_deep=False)
    if is_deep and path.startswith("[", at):
        return _bracket(path, at + 1, is_deep=True)
    if path.startswith("*", at):
        return FieldStep(is_deep=is_deep), at + 1
    found = _NAME.match(path, at)
    if not found:
        raise _bad(path, at, "a name of letters, digits and _, or *; others go in brackets, ['x-y']")
    if path[found.end() : found.end() + 1] not in ("", ".", "[", "~"):
        raise _bad(path, found.end(), "names with other characters go in brackets, ['x-y']")
    return FieldStep(_bounded(path, at, found[0]), is_deep=is_deep), found.end()


def _bracket(path: str, at: int, *, is_deep: bool) -> tuple[FieldStep, int]:
    """The step in a pair of brackets, from after the first one."""
    if path.startswith("*", at):
        step, end = FieldStep(is_deep=is_deep), at + 1
    elif quoted := _QUOTED.match(path, at):
        name = quoted[1] if quoted[1] is not None else quoted[2]
        step, end = FieldStep(_bounded(path, at, name), is_deep=is_deep), quoted.end()
    elif number := _INDEX.match(path, at):
        step, end = FieldStep(index=int(number[0]), is_deep=is_deep), number.end()
    elif path.startswith("-", at):
        raise _bad(path, at, "no index from the end: a stream has none before it is over")
    elif path.startswith("?", at):
        raise _bad(path, at, "no filters: a rule of the policy can look at the call and name other paths")
    elif path.startswith(("'", '"'), at):
        raise _bad(path, at, "the quotes are not closed, or there is a backslash (put ' in \" and \" in ')")
    else:
        raise _bad(path, at, "in brackets: *, an index, or a name in quotes")
    if not path.startswith("]", end):
        is_more = path.startswith((",", ":"), end)
        raise _bad(path, end, "one step, no lists or slices: write one rule for each" if is_more else "] is missing")
    return step, end + 1


def _bounded(path: str, at: int, name: str) -> str:
    if not 1 <= len(name) <= NAME_MAX:
        raise _bad(path, at, f"a name has 1 to {NAME_MAX} characters")
    return name


def _bad(path: str, at: int, what: str) -> BadFieldRule:
    return BadFieldRule(f"{path!r}, character {at + 1}: {what}")
