"""Questions that a policy has something to say about: found by asking it, and remembered if the answer is a new one.

First a caller in every group that the policy names asks for every model and operation that it names: some of that is
allowed, or nobody could work with the policy. A rule about one group only (`"interns" in input.identity.groups`) speaks
where somebody who may call is in it too: so callers join such groups. From what is allowed one field at a time is
varied, with the words and numbers that the policy knows; then several at once, by a seed. What is kept is what was
answered differently from everything before, and enough of the rest.
"""

from __future__ import annotations

import copy
import ipaddress
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import ConfigError
from ext_proc.policy.trial.defaults import SEED
from ext_proc.policy.trial.schema import problems, question_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ext_proc.policy.trial.opa_program import Server
    from ext_proc.policy.trial.vocabulary import Vocabulary

Question = dict[str, Any]

UNKNOWN: Final = "zz-never-heard-of"
_OPERATIONS: Final = {
    "chat": ("POST", "/v1/chat/completions", "openai.chat"),
    "messages": ("POST", "/v1/messages", "anthropic.messages"),
    "completion": ("POST", "/v1/completions", "openai.completions"),
    "embedding": ("POST", "/v1/embeddings", "openai.embeddings"),
    "response": ("POST", "/v1/responses", "openai.responses"),
    "count_tokens": ("POST", "/v1/messages/count_tokens", "anthropic.count_tokens"),
    "models": ("GET", "/v1/models", "openai.models"),
    "generic": ("POST", "/predict", "generic"),
}
"""What the gate asks about, and how it is called."""
_WITHOUT_MODEL: Final = ("models", "generic")
_COUNTED: Final = ("n", "tool_count", "media_count")
_FEW: Final = 100
_FOUND: Final = ("EMAIL", "SECRET_GITHUB", "URL_CREDENTIALS")
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MODELS_MAX: Final = 40
_GROUPS_MAX: Final = 60
_ANCHORS_MAX: Final = 4
_JOINED_MAX: Final = 8
_CODES_MAX: Final = 5
_TAGS_MAX: Final = 50
_TRIES_MAX: Final = 4
_BIG: Final = 10**9
_PLAIN: Final[Question] = {
    "schema": "affidavit/question/v1",
    "exchange_id": "00000000-0000-4000-8000-000000000000",
    "identity": {
        "issuer": "https://idp.example",
        "subject": "someone",
        "method": "oidc",
        "groups": [],
        "client": None,
        "tenant": None,
    },
    "connection": {"name": "demo", "protocol": "openai.chat", "tags": []},
    "request": {
        "method": "POST",
        "path": "/v1/chat/completions",
        "operation": "chat",
        "model": "demo",
        "stream": False,
        "betas": [],
        "emergency": False,
        "parameters": {"max_tokens": 1, "media_count": 0, "message_count": 1, "tool_count": 0},
        "body_bytes": 100,
        "text_bytes": 50,
    },
    "findings": {},
    "time": {"now": "2026-11-24T12:00:00.000Z", "weekday": "tuesday", "hour": 12},
    "source": {"address": "10.0.0.1", "user_agent": "check"},
}


@dataclass(slots=True)
class Corpus:
    """Questions with their answers. ``telling`` are those whose answer was a new one when it came."""

    questions: list[Question] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    telling: int = 0

    def count(self, is_so: Callable[[Any], bool]) -> int:
        """Of how many answers is it so?"""
        return sum(1 for answer in self.answers if is_so(answer))


def is_allowed(answer: Any) -> bool:
    """Does the answer let the call pass (perhaps held first)?"""
    return isinstance(answer, dict) and answer.get("allow") is True


def is_held(answer: Any) -> bool:
    """Do people have to agree?"""
    return is_allowed(answer) and answer.get("approval") is not None


def read(path: Path) -> list[Question]:
    """Questions from a file (JSON: one or a list; JSON lines) or from each such file in a folder.

    Raises:
        ConfigError: there is none, or one is no question: the detail says where and what.
    """
    files = sorted((*path.rglob("*.json"), *path.rglob("*.jsonl"))) if path.is_dir() else [path]
    found: list[Question] = []
    for file in files:
        for number, one in enumerate(_parsed(file), 1):
            wrong = next(problems(question_schema(), one), None)
            if wrong is not None:
                raise ConfigError(f"{file}: question {number}: {wrong} (docs/policy-input.md)")
            found.append(one)
    if not found:
        raise ConfigError(f"{path}: no questions in it (*.json, *.jsonl)")
    return found


def _parsed(file: Path) -> list[Any]:
    try:
        text = file.read_text()
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        whole = json.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{file}: not valid JSON") from None
    return whole if isinstance(whole, list) else [whole]


def generate(server: Server, words: Vocabulary, wanted: int, seed: int = SEED) -> Corpus:
    """So many questions, the same for the same policy and seed.

    Raises:
        ConfigError: the policy allows none of what was tried.
    """
    chance = Random(seed)  # noqa: S311 - no secret: the same questions each time
    corpus, seen = Corpus(), set[str]()
    _keep(corpus, seen, server, [one for one in _first(words) if _is_whole(one)])
    anchors = _anchors(corpus)
    if not anchors:
        raise ConfigError(
            f"the policy allows nothing of what was asked{_most_frequent(corpus.answers)}, so nothing can be said "
            "about it: give it a question that it allows, with --inputs FILE"
        )
    joined = _joined(anchors[0], words)
    _keep(corpus, seen, server, joined)
    anchors += [one for one, answer in zip(joined, server.ask_all(joined), strict=True) if is_allowed(answer)]
    varied = [_with(anchor, path, value) for anchor in anchors for path, value in _values(words, anchor)]
    _keep(corpus, seen, server, [one for one in varied if _is_whole(one)])
    corpus.telling = len(corpus.questions)
    missing = max(0, wanted - corpus.telling)
    mixed = (_mixed(chance, words, chance.choice(corpus.questions)) for _ in range(_TRIES_MAX * missing))
    some = list(islice(filter(_is_whole, mixed), missing))
    corpus.questions += some
    corpus.answers += server.ask_all(some)
    return corpus


def _most_frequent(answers: Iterable[Any]) -> str:
    """Of denials, the codes that are told most: what stands in the way."""
    told = [one.get("reasons") for one in answers if isinstance(one, dict)]
    codes = Counter(str(code) for some in told if isinstance(some, list) for code in some)
    most = ", ".join(f"{code} ({count})" for code, count in codes.most_common(_CODES_MAX))
    return f" (most told: {most})" if most else ""


def _is_whole(question: Question) -> bool:
    """A word that the policy compares with may be one that the gate never says, such as an empty model."""
    return next(problems(question_schema(), question), None) is None


def _keep(corpus: Corpus, seen: set[str], server: Server, asked: Sequence[Question]) -> None:
    """Those that are answered as nothing before was."""
    for question, answer in zip(asked, server.ask_all(asked), strict=True):
        said = json.dumps(answer, sort_keys=True)
        if said not in seen:
            seen.add(said)
            corpus.questions.append(question)
            corpus.answers.append(answer)


def _anchors(corpus: Corpus) -> list[Question]:
    """What is allowed, what is held among it: a few of each are varied."""
    allowed = [
        question for question, answer in zip(corpus.questions, corpus.answers, strict=True) if is_allowed(answer)
    ]
    held = [question for question, answer in zip(corpus.questions, corpus.answers, strict=True) if is_held(answer)]
    chosen = [*allowed[: _ANCHORS_MAX // 2], *held[: _ANCHORS_MAX // 2], *allowed[_ANCHORS_MAX // 2 :]]
    return [one for number, one in enumerate(chosen) if one not in chosen[:number]][:_ANCHORS_MAX]


def _joined(anchor: Question, words: Vocabulary) -> list[Question]:
    """A caller who may call, and is in one group more that a rule names."""
    groups = anchor["identity"]["groups"]
    more = [one for one in words.groups_of_rules if one not in groups][:_JOINED_MAX]
    return [_with(anchor, ("identity", "groups"), [*groups, one]) for one in more]


def _first(words: Vocabulary) -> Iterator[Question]:
    groups = (words.groups or words.words)[:_GROUPS_MAX]
    models = [*_models(words), "demo"]
    for operation in dict.fromkeys([*_OPERATIONS, *words.by_field.get("request.operation", ())]):
        for model in [None] if operation in _WITHOUT_MODEL else models:
            asked = _calling(operation, model)
            yield _with(asked, ("identity", "groups"), groups)
    for model in models:
        for group in dict.fromkeys([*groups, *words.groups_of_rules]):
            yield _with(_calling("chat", model), ("identity", "groups"), [group])
        yield _calling("chat", model)


def _models(words: Vocabulary) -> list[str]:
    """Where the sources look models up, what is found there; else any word may be one."""
    return list(dict.fromkeys(words.by_field.get("request.model") or words.words))[:_MODELS_MAX]


def _calling(operation: str, model: str | None) -> Question:
    method, path, protocol = _OPERATIONS.get(operation, ("POST", "/", "generic"))
    asked = copy.deepcopy(_PLAIN)
    asked["connection"]["protocol"] = protocol
    asked["request"] |= {"method": method, "path": path, "operation": operation, "model": model}
    if model is None:
        asked["request"]["parameters"] = {}
    return asked


def _values(words: Vocabulary, anchor: Question) -> Iterator[tuple[tuple[str, ...], Any]]:
    """For each field what it could be, as far as the policy may care."""
    groups = anchor["identity"]["groups"]
    yield from ((("identity", "groups"), [one]) for one in (words.groups or words.words))
    yield from ((("identity", "groups"), [one for one in groups if one != without]) for without in groups)
    for name in ("identity.issuer", "identity.subject", "identity.client", "identity.tenant", "connection.name"):
        yield from ((tuple(name.split(".")), one) for one in words.by_field.get(name, ()))
    for name in ("connection.protocol", "request.method", "request.path", "source.user_agent"):
        yield from ((tuple(name.split(".")), one) for one in words.by_field.get(name, ()))
    yield from ((("connection", "tags"), [one]) for one in words.words[:_TAGS_MAX])
    yield from ((("request", "model"), one) for one in _models(words))
    yield from ((("request", "stream"), True), (("request", "emergency"), True))
    yield from ((("request", "betas"), [one]) for one in words.by_field.get("request.betas", ()))
    counts = _around(words.numbers)
    few = [one for one in counts if one < _FEW]
    yield from ((("request", "parameters", "max_tokens"), one) for one in (*counts, _BIG))
    yield from ((("request", "parameters", name), one) for name in _COUNTED for one in (*few, _BIG))
    yield from ((("request", name), one) for name in ("body_bytes", "text_bytes") for one in (*counts, _BIG))
    entities = dict.fromkeys([*words.entities, *_FOUND])
    yield from ((("findings",), {entity: count}) for entity in entities for count in (1, _BIG))
    yield ("findings",), dict.fromkeys(entities, 1)
    yield from ((("time", "hour"), hour) for hour in range(24))
    yield from ((("time", "weekday"), day) for day in _WEEKDAYS)
    yield from ((("source", "address"), one) for one in _addresses(words))


def _around(numbers: Iterable[float]) -> list[int]:
    """Limits are found at their edges."""
    return sorted({max(0, int(one) + step) for one in numbers for step in (-1, 0, 1)} | {0, 1})


def _addresses(words: Vocabulary) -> Iterator[str]:
    yield from ("203.0.113.9", "127.0.0.1", "2001:db8::1")
    for network in words.networks:
        try:
            yield str(ipaddress.ip_network(network, strict=False).network_address + 1)
        except ValueError:
            continue


def _with(question: Question, path: Sequence[str], value: Any) -> Question:
    """A copy with another value at one place."""
    made = copy.deepcopy(question)
    at: Any = made
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return made


def _mixed(chance: Random, words: Vocabulary, question: Question) -> Question:
    """Several fields at once."""
    values = list(_values(words, question))
    made = question
    for _ in range(chance.randint(1, 3)):
        path, value = chance.choice(values)
        made = _with(made, path, value)
    return made
