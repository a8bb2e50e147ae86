"""``affidavit policy rerun``: would the policy that decided decide the same again? From the bucket alone.

Of each decision: the question is opened (that is on record first), the bundle fetched by the digest that the record
names, OPA asked without a network, and both answers compared field by field.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console

from ext_proc.app.authoring.archived_bundles import ArchivedBundles, NoBundle
from ext_proc.app.process import clock
from ext_proc.audit.erasure import Order
from ext_proc.audit.record import instant
from ext_proc.errors import ConfigError
from ext_proc.evidence.questions import recorded
from ext_proc.evidence.times import parse_time
from ext_proc.evidence.visible import visible
from ext_proc.policy import bundle
from ext_proc.policy.again import Failed
from ext_proc.policy.bundle import Signing
from ext_proc.policy.differing import contradictions, differences
from ext_proc.policy.question import NotAskedError, read_asked
from ext_proc.policy.trial.opa_program import find_opa
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.questions import Recorded
    from ext_proc.evidence.versions import VersionedStore
    from ext_proc.policy.differing import Difference
    from ext_proc.policy.question import Asked

LOT: Final = 500
"""So many decisions are asked about at once."""

Verdict = Literal["same", "different", "contradictory", "erased", "unreadable", "no_bundle"]
WELL: Final = frozenset({"same", "erased"})
"""``erased``: somebody's key was shredded as the law wants it, and the log says so."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of one decision. ``contradictory``: the record disagrees with the answer that is kept beside it."""

    exchange_id: str
    kind: str
    at: str
    place: str
    revision: str
    digest: str
    verdict: Verdict
    why: str = ""
    fields: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def span_of(options: argparse.Namespace) -> tuple[datetime | None, datetime | None]:
    """``--since`` and ``--until`` as instants.

    Raises:
        EvidenceError: one is none.
    """
    now = clock()
    since = parse_time(options.since, now) if options.since else None
    return since, parse_time(options.until, now, is_end=True) if options.until else None


def noted_once(
    journal: Journal, by: str, purpose: str, exchange_id: str | None, since: datetime | None, until: datetime | None
) -> Callable[[], None]:
    """To be called before something is opened: an id that is none leaves no record. A span is on record at once."""
    note = cache(partial(put_on_record, journal, by, purpose, exchange_id, since, until))
    if exchange_id is None:
        note()
    Order(purpose, by)  # wrong ones are said at once
    return note


def put_on_record(
    journal: Journal, by: str, purpose: str, exchange_id: str | None, since: datetime | None, until: datetime | None
) -> None:
    """That questions are about to be read.

    Raises:
        ConfigError: ``by`` or ``purpose`` cannot stand in a leaf.
        AuditUnavailable: it cannot be recorded.
    """
    Order(purpose, by)
    facts = {"roles": [PayloadRole.POLICY_QUESTION], "by": by, "purpose": purpose}
    if exchange_id is not None:
        journal.note(LeafKind.ACCESS_READ, {**facts, "exchange_id": exchange_id})
        return
    ends = {"since": instant(since) if since else None, "until": instant(until) if until else None}
    journal.note(LeafKind.ACCESS_SPAN_READ, {**facts, **ends})


def reruns(found: Iterable[Recorded], bundles: ArchivedBundles) -> Iterator[Rerun]:
    """Each decision again.

    Raises:
        EvidenceError: the store cannot be read.
        ConfigError: OPA cannot be run.
    """
    left = iter(found)
    while lot := list(islice(left, LOT)):
        made: dict[int, Rerun] = {}
        asked: dict[str, list[tuple[int, Asked]]] = {}
        for number, one in enumerate(lot):
            question = _question(one)
            if isinstance(question, Rerun):
                made[number] = question
            else:
                asked.setdefault(str(one.policy.get("bundle_digest")), []).append((number, question))
        for digest, several in asked.items():
            made |= _asked_again(bundles, digest, [(number, lot[number], question) for number, question in several])
        yield from (made[number] for number in range(len(lot)))


def _question(one: Recorded) -> Asked | Rerun:
    if one.body is None:
        return _told(one, "erased" if one.state == "shredded" else "unreadable", f"{one.state}: {one.why}")
    try:
        question = read_asked(one.body)
    except NotAskedError as error:
        return _told(one, "unreadable", f"damaged: {error}")
    fields = contradictions(one.policy, question.result)
    if fields or question.input.get("exchange_id") != one.exchange_id:
        return _told(one, "contradictory", "the record and the answer kept beside it disagree", fields)
    return question


def _asked_again(
    bundles: ArchivedBundles, digest: str, several: Sequence[tuple[int, Recorded, Asked]]
) -> dict[int, Rerun]:
    try:
        asker = bundles.asker(digest)
    except NoBundle as refused:
        return {number: _told(one, "no_bundle", str(refused)) for number, one, _ in several}
    answers = asker.ask_all([question.text for _, _, question in several])
    return {
        number: _compared(one, question, answer)
        for (number, one, question), answer in zip(several, answers, strict=True)
    }


def _compared(one: Recorded, question: Asked, answer: Any) -> Rerun:
    if isinstance(answer, Failed):
        return _told(one, "different", f"it answers with an error now: {answer.why}")
    fields = differences(question.result, answer)
    return _told(one, "different" if fields else "same", "", fields)


def _told(one: Recorded, verdict: Verdict, why: str = "", fields: tuple[Difference, ...] = ()) -> Rerun:
    leaf, policy = one.leaf, one.policy
    place = f"record {leaf['sequence']} of {leaf['origin']}"
    named = str(policy.get("bundle_revision")), str(policy.get("bundle_digest"))
    return Rerun(one.exchange_id, leaf["kind"], leaf["at"], place, *named, verdict, why, fields)


def run(store: VersionedStore, options: argparse.Namespace, decision: str, keyring: KeyRing, journal: Journal) -> int:
    """The command. Exit status: 0 all that can be asked are the same, 1 not all are, or nothing could be asked."""
    since, until = span_of(options)
    opa = find_opa(options.opa)
    note = noted_once(journal, options.by, options.purpose, options.exchange, since, until)
    counts: Counter[str] = Counter()
    opener = keyring.opener()
    found = recorded(store, opener, since=since, until=until, exchange_id=options.exchange, before_opening=note)
    with ArchivedBundles(store, opa, decision) as bundles:
        for one in reruns(found, bundles):
            counts[one.verdict] += 1
            if options.json:
                print(json.dumps(one.to_json(), sort_keys=True))
            elif options.exchange is not None or one.verdict not in WELL:
                _show(one)
    if not options.json:
        words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{sum(counts.values())} decisions: {words}" if counts else "no decision is on record there")
    return 0 if counts["same"] and set(counts) <= WELL else 1


def build(options: argparse.Namespace) -> int:
    """``affidavit policy build``.

    Raises:
        ConfigError: the options do not go together, or OPA refuses the sources.
    """
    if (options.sign is None) != (options.key_id is None):
        raise ConfigError("--sign and --key-id go together: OPA must know which key to check it with")
    if options.number is not None and not 0 <= options.number < 2**53:
        raise ConfigError("--number: a whole number from 0 on")
    if options.sign is not None and options.number is None:
        raise ConfigError("--number: a signed bundle needs its place in the line; take a larger one each time")
    signing = None if options.sign is None else Signing(options.sign, options.key_id, options.algorithm)
    opa = find_opa(options.opa)
    made = bundle.build(opa, options.sources, options.out, number=options.number, signing=signing)
    if options.json:
        print(json.dumps({"revision": made.revision, "digest": made.digest, "file": str(options.out)}))
    else:
        print(f"{options.out}: revision {made.revision}\n  SHA-256 {made.digest}")
    return 0


def _show(one: Rerun) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{one.verdict}  {visible(one.exchange_id)}  {one.kind}, {one.place}", markup=False)
    console.print(f"    policy {visible(one.revision)} ({one.digest[:16]})", markup=False)
    if one.why:
        console.print(f"    {visible(one.why)}", markup=False)
    for field in one.fields:
        was, now = (visible(json.dumps(value, ensure_ascii=False)) for value in (field.before, field.now))
        console.print(f"    {field.field}: {was} -> {now}", markup=False)
