"""Rule packs: what a file says, checked, made into rules.

A pack is YAML: its name and version, pieces that several patterns share (``define``), and rules. Ours are in
``packs/``; authors add their own. Everything that is wrong with a pack is said at once, by rule, with what to do.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ext_proc.errors import ConfigError
from ext_proc.redaction import safety
from ext_proc.redaction.rule import ANCHOR_MAX, Rule
from ext_proc.redaction.validators import VALIDATORS
from ext_proc.strict_yaml import KeyTwiceError, StrictLoader

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_MAX: Final = 2048
WORDS_AFTER: Final = 48
"""How far after its word a value may begin, where a rule says nothing else."""

_NAMED: Final = re.compile(r"%\{([A-Z_]+)\}")
_MARKS: Final = re.compile("[«»]")
_BREAK: Final = "¦"  # keeps scanners of repositories from taking samples for real credentials
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Of the built-in packs: every start waits for it."""
_SEE: Final = "see docs/redaction.md, section `Your own rules`"
_PROBLEMS_MAX: Final = 20
_FORMS: Final = {
    "pack": "it must be of small letters, digits and -, for example acme",
    "id": "it must be of 2 to 63 small letters, digits and -, for example staff-number",
    "entity": "it must be of 2 to 63 capitals, digits and _, for example ACME_BADGE",
    "[key]": "its name must be of capitals and _, for example BADGE",
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Keyed(_Strict):
    key: str
    text: str


class _RuleText(_Strict):
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
    entity: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,62}$")]
    pattern: str
    anchor: str | None = None
    words: tuple[str, ...] = ()
    run: str | None = None
    end: str | None = None
    validator: str = "always"
    before: Annotated[int, Field(ge=0, le=WINDOW_MAX)] = 0
    after: Annotated[int, Field(ge=0, le=WINDOW_MAX)] | None = None
    score: Annotated[float, Field(gt=0, lt=1, strict=False)] = 0.9
    version: str = "1"
    hits: tuple[str | _Keyed, ...] = ()
    misses: tuple[str | _Keyed, ...] = ()


class _PackText(_Strict):
    pack: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: str
    about: str = ""
    define: dict[Annotated[str, Field(pattern=r"^[A-Z_]+$")], str] = {}
    rules: Annotated[tuple[_RuleText, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Sample:
    """A text with what its rule must find in it: None where it must find nothing."""

    rule: str
    text: str
    key: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Pack:
    """Rules that belong together."""

    name: str
    version: str
    rules: tuple[Rule, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: with which rule and field, why, and what to do."""

    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}; {self.remedy}"


class BadPack(ConfigError):
    """A pack that is refused; `problems` has everything that is wrong with it."""

    code = "bad_rule_pack"

    def __init__(self, name: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"{name}: {'. '.join(map(str, problems))}")
        self.problems = problems


def read_pack(data: bytes, name: str = "rule pack", *, is_known_safe: bool = False) -> Pack:
    """The pack that a file holds.

    Args:
        data: the file's bytes.
        name: what to call it in errors: its path.
        is_known_safe: a built-in pack. That it is safe is a test's to say, not every start's.

    Raises:
        BadPack: something is wrong with it.
    """
    told = _told(data, name, _LOADER if is_known_safe else StrictLoader)
    problems: list[Problem] = []
    rules: list[Rule] = []
    samples: list[Sample] = []
    seen: set[str] = set()
    for one in told.rules:
        if one.id in seen:
            problems.append(Problem(one.id, "two rules have this id", "give each its own"))
        seen.add(one.id)
        try:
            rules.append(_Making(told, one, is_known_safe=is_known_safe).rule())
            samples += _samples(one)
        except _Refused as refused:
            problems.append(refused.problem)
    if problems:
        raise BadPack(name, tuple(problems))
    return Pack(told.pack, told.version, tuple(rules), tuple(samples))


def _told(data: bytes, name: str, loader: Any) -> _PackText:
    read = None
    try:
        read = yaml.load(data.decode(), Loader=loader)  # noqa: S506 - a safe loader
        # A date is made what no field may be: it is told with its place, and to put it in quotes.
        return _PackText.model_validate_json(json.dumps(read, default=lambda _: False))
    except ValidationError as error:
        raise BadPack(name, tuple(_misfits(error, read))) from None
    except (yaml.YAMLError, KeyTwiceError, ValueError, TypeError, RecursionError) as error:
        raise BadPack(name, (_unreadable(error, is_yaml=read is not None),)) from None


def _unreadable(error: Exception, *, is_yaml: bool) -> Problem:
    if isinstance(error, UnicodeDecodeError):
        return Problem("file", "it is not text (UTF-8)", "a pack is a YAML file: is this the one that you meant?")
    if isinstance(error, KeyTwiceError):
        return Problem("file", str(error), "keep one of them: the other would be lost")
    if is_yaml:
        return Problem("file", "it holds what no pack can (itself, or a name that is no text)", _SEE)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}" if mark is not None else "file"
    return Problem(where, "it is not valid YAML", "put patterns in single quotes ('' stands for one)")


def _misfits(error: ValidationError, read: Any) -> Iterator[Problem]:
    """What does not fit, each place once."""
    if not isinstance(read, dict):
        yield Problem("file", "it is empty" if read is None else "it has no `pack`, `version` and `rules`", _SEE)
        return
    told: set[str] = set()
    several = error.errors(include_url=False, include_input=False)
    for one in several:
        place = [part for part in one["loc"] if part not in ("str", "_Keyed")]  # the kinds that a sample may be of
        if one["type"] == "too_short" and len(several) > 1:  # of rules that do not fit there are none
            continue
        where = _place(place, read)
        if where not in told and len(told) < _PROBLEMS_MAX:
            told.add(where)
            yield Problem(where, *_misfit(one["type"], one["msg"], place))


def _place(place: list[int | str], read: dict[Any, Any]) -> str:
    """With a rule's id, where it has one, instead of its number: nobody wants to count."""
    match place:
        case ["rules", int(number), *rest]:
            rule = read["rules"][number]
            name = rule.get("id") if isinstance(rule, dict) else None
            if rest[:1] != ["id"] and isinstance(name, str) and re.fullmatch("[a-z0-9-]{2,63}", name):
                place = [name, *rest]
        case _:
            pass
    return ".".join(map(str, place)) or "file"


def _misfit(kind: str, said: str, place: list[int | str]) -> tuple[str, str]:
    """The reason and the remedy."""
    last = str(place[-1]) if place else ""
    match kind:
        case "missing":
            return "it is missing", f"add it: {_SEE}"
        case "extra_forbidden":
            of = _RuleText if place[0] == "rules" else _PackText
            near = difflib.get_close_matches(last, of.model_fields, 1)
            remedy = f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(of.model_fields)}"
            return "there is no such field", remedy
        case "string_type":
            return "it is no text", "put it in quotes"
        case "tuple_type":
            return "it is no list", "put it in [ ], or each on a line of its own after a dash"
        case "string_pattern_mismatch" if last in _FORMS:
            return _FORMS[last], "call it otherwise"
        case _:
            return said[0].lower() + said[1:], _SEE


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Making:
    """One rule on its way from text to what runs."""

    def __init__(self, pack: _PackText, text: _RuleText, *, is_known_safe: bool) -> None:
        self._pack = pack
        self._text = text
        self._is_known_safe = is_known_safe

    def rule(self) -> Rule:
        """The rule, checked.

        Raises:
            _Refused: it cannot be run, or not safely.
        """
        text = self._text
        pattern = self._filled("pattern", text.pattern)
        bounds = self._bounds("pattern", pattern)
        if not bounds.min_length:
            raise self._refused("pattern", "it matches an empty text", "say at least one character that must be there")
        whole = self._with_run(pattern, bounds) if text.run is not None else pattern
        if text.end is not None and text.run is None:
            raise self._refused("end", "there is no `run` that it could end", "put it into the pattern")
        compiled = re.compile(whole, re.ASCII)
        if text.run is not None and compiled.groups and not pattern.endswith(")"):
            raise self._refused("pattern", "the run goes on after its group", "end the pattern with the group")
        if compiled.groups > 1:
            raise self._refused("pattern", "it has more than one group", "keep one round the value; (?:...) for others")
        validator = VALIDATORS.get(text.validator)
        if validator is None:
            raise self._refused(
                "validator", f"there is no {text.validator!r}", f"one of: {', '.join(sorted(VALIDATORS))}"
            )
        anchor = self._anchor()
        default = WORDS_AFTER if text.words else min(bounds.max_length, WINDOW_MAX)
        return Rule(
            id=text.id,
            entity=text.entity,
            anchor=anchor,
            pattern=compiled,
            validator=validator,
            before=text.before,
            after=text.after if text.after is not None else default,
            score=text.score,
            version=text.version,
            max_length=bounds.max_length,
            lookbehind=bounds.lookbehind,
            lookahead=bounds.lookahead,
            open_ended=text.run is not None,
            pack=self._pack.pack,
        )

    def _refused(self, field: str, reason: str, remedy: str) -> _Refused:
        return _Refused(Problem(f"{self._text.id}.{field}", reason, remedy))

    def _filled(self, field: str, pattern: str) -> str:
        def named(match: re.Match[str]) -> str:
            said = self._pack.define.get(match[1])
            if said is None:
                raise self._refused(field, f"%{{{match[1]}}} is not defined", "add it to `define`")
            return said

        for _ in range(4):  # a piece may be made of pieces
            pattern = _NAMED.sub(named, pattern)
        if _NAMED.search(pattern):
            raise self._refused(field, "pieces in `define` go round in a circle", "write one of them out")
        return pattern

    def _bounds(self, field: str, pattern: str) -> safety.Bounds:
        try:
            return safety.bounds(pattern, is_known_safe=self._is_known_safe)
        except safety.UnsafePattern as unsafe:
            raise self._refused(field, unsafe.reason, unsafe.remedy) from None

    def _with_run(self, head: str, bounds: safety.Bounds) -> str:
        """An open-ended value: its beginning is known for what it is, then characters of one class as they come."""
        run = self._filled("run", self._text.run or "")
        end = self._filled("end", self._text.end or "")
        if not self._is_known_safe:
            self._check_run(run, end, bounds)
        tail = f"{run}*" + (f"(?:{end})?" if end else "")
        if not head.endswith(")") or not re.compile(head).groups:
            return head + tail
        return head[:-1] + tail + ")"

    def _check_run(self, run: str, end: str, bounds: safety.Bounds) -> None:
        if end:
            self._bounds("end", f"(?:{end})")  # as it will stand in the pattern
        try:
            is_class = safety.is_one_class(run)
            collides = bool(end) and safety.overlap(run, end)
        except safety.UnsafePattern as unsafe:
            raise self._refused("run", unsafe.reason, unsafe.remedy) from None
        if not is_class:
            raise self._refused("run", "it is not one class of characters", "for example [A-Za-z0-9_-]")
        if collides:
            raise self._refused(
                "end", "it may begin with a character of the run", "it would never be reached: leave it"
            )
        if bounds.lookahead:
            raise self._refused("pattern", "it looks ahead, where the run goes on", "take the look-ahead off")

    def _anchor(self) -> str:
        text = self._text
        if text.words and text.anchor is not None:
            raise self._refused("anchor", "there are `words` too", "keep one of them: words are made into an anchor")
        if not text.words and text.anchor is None:
            raise self._refused(
                "anchor", "there is none", "name what must stand in or before a value: `anchor`, or context `words`"
            )
        said = text.anchor if text.anchor is not None else "|".join(map(_any_case, text.words))
        anchor = self._filled("anchor", said)
        if self._is_known_safe:
            return anchor
        field = "words" if text.words else "anchor"  # what the author wrote
        bounds = self._bounds(field, anchor)
        if not bounds.min_length or bounds.max_length > ANCHOR_MAX:
            raise self._refused(field, "it is empty or too long", f"1 to {ANCHOR_MAX} characters")
        if bounds.lookbehind > 1 or bounds.lookahead > 1 or not safety.is_plain(anchor):
            raise self._refused(
                field, "the gate, which reads bytes, cannot look for it", r"use \b, groups and classes of ASCII only"
            )
        return anchor


def _any_case(word: str) -> str:
    """A word in any case, its parts joined, apart, or written as keys are."""
    made = ""
    at = 0
    while at < len(word):
        char = word[at]
        if char == "\\":
            made += word[at : at + 2]
            at += 1
        elif char == "[":
            end = word.index("]", at) if "]" in word[at:] else len(word) - 1
            made += word[at : end + 1]
            at = end
        elif char == " ":
            made += "[ _-]?"
        elif char.isascii() and char.isalpha():
            made += f"[{char.upper()}{char.lower()}]"
        else:
            made += char
        at += 1
    return made


def _samples(rule: _RuleText) -> Iterator[Sample]:
    for kind, several in (("hits", rule.hits), ("misses", rule.misses)):
        for one in several:
            said, key = (one, "") if isinstance(one, str) else (one.text, one.key)
            parts = _MARKS.split(said.replace(_BREAK, ""))
            if kind == "hits" and len(parts) != 3:
                reason = "a hit does not mark what is found"
                raise _Refused(Problem(f"{rule.id}.hits", reason, "put it between « and »: 'my card is «4111...»'"))
            yield Sample(rule.id, "".join(parts), key.replace(_BREAK, ""), parts[1] if kind == "hits" else None)
