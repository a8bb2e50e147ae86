"""``affidavit policy explain EXCHANGE``: which rules decided it, by the bundle that did, out of the bucket alone.

What is shown is what the bundle says today, and whether that is what is on record: an explanation of another answer
would explain nothing.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ext_proc.app.authoring.archived_bundles import NoBundle, bytes_of
from ext_proc.app.authoring.policy_try import show_traced
from ext_proc.app.authoring.rerun import noted_once
from ext_proc.errors import ConfigError
from ext_proc.evidence.questions import recorded
from ext_proc.evidence.visible import visible
from ext_proc.policy.again import write_capabilities
from ext_proc.policy.bundle import unpack
from ext_proc.policy.differing import contradictions, differences
from ext_proc.policy.question import NotAskedError, read_asked
from ext_proc.policy.trial import tracing
from ext_proc.policy.trial.opa_program import find_opa, sources

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ext_proc.audit.erasure import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.evidence.questions import Recorded
    from ext_proc.evidence.versions import VersionedStore
    from ext_proc.policy.question import Asked


def run(store: VersionedStore, options: argparse.Namespace, decision: str, keyring: KeyRing, journal: Journal) -> int:
    """The command. Exit status: 0 allowed (perhaps held first), 1 not.

    Raises:
        ConfigError: there is no such decision, its question cannot be read, or its bundle cannot be had.
        EvidenceError: the store cannot be read.
        AuditUnavailable: it cannot be put on record that the question is read.
    """
    opa = find_opa(options.opa)
    note = noted_once(journal, options.by, options.purpose, options.question, None, None)
    one, question = _decided(store, keyring, options.question, note)
    with _sources(store, one, options.policy) as folder, tempfile.TemporaryDirectory() as name:
        able = ("--capabilities", str(write_capabilities(opa, Path(name))))
        traced = tracing.trace(opa, folder, question.input, options.decision or decision, *able)
        found = (*contradictions(one.policy, question.result), *differences(question.result, traced.answer))
        fields = sorted({difference.field for difference in found})
        if not options.json:
            _show(one, fields)
        told = {"record": _told(one), "recorded": question.result, "differs_in": fields}
        return show_traced(folder, traced, told, as_json=options.json)


def _decided(
    store: VersionedStore, keyring: KeyRing, exchange_id: str, note: Callable[[], None]
) -> tuple[Recorded, Asked]:
    """The last decision: of a call that people agreed to the policy is asked again."""
    found = list(recorded(store, keyring.opener(), exchange_id=exchange_id, before_opening=note))
    if not found:
        raise ConfigError(
            f"{visible(exchange_id)}: no decision is on record under this id (header x-affidavit-exchange; a record of "
            "the last seconds may still be on its way), and there is no such file"
        )
    one = found[-1]
    if one.body is None:
        raise ConfigError(f"{visible(exchange_id)}: its question cannot be read: {one.state}: {visible(one.why)}")
    try:
        question = read_asked(one.body)
    except NotAskedError as error:
        raise ConfigError(f"{visible(exchange_id)}: its question cannot be read: {error}") from None
    if question.input.get("exchange_id") != one.exchange_id:
        raise ConfigError(f"{visible(exchange_id)}: the question beside its record is another exchange's")
    return one, question


@contextmanager
def _sources(store: VersionedStore, one: Recorded, given: Path | None) -> Iterator[Path]:
    """Those that are given, or those in the bundle that decided."""
    if given is not None:
        yield sources(given)
        return
    with tempfile.TemporaryDirectory(prefix="affidavit-explain-") as name:
        try:
            unpack(bytes_of(store, str(one.policy.get("bundle_digest"))), Path(name))
        except NoBundle as refused:
            raise ConfigError(f"{refused}; --policy DIR asks other sources") from None
        yield Path(name)


def _told(one: Recorded) -> dict[str, Any]:
    leaf, policy = one.leaf, one.policy
    return {
        "kind": leaf["kind"],
        "at": leaf["at"],
        "origin": leaf["origin"],
        "sequence": leaf["sequence"],
        "revision": policy.get("bundle_revision"),
        "digest": policy.get("bundle_digest"),
    }


def _show(one: Recorded, fields: list[str]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    told = {name: visible(str(value)) for name, value in _told(one).items()}
    console.print(f"{told['kind']} of {told['at']}, record {told['sequence']} of {told['origin']}", markup=False)
    console.print(f"policy {told['revision']} ({told['digest'][:16]})", markup=False)
    if fields:
        console.print(f"on record is another answer: {visible(', '.join(fields))} differ", markup=False)
    else:
        console.print("as on record:", markup=False)
