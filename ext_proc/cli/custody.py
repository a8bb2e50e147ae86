"""``erase``, ``legal-hold``, ``keys`` and ``canary``: people, keys, and whether the store keeps what it locks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add, hours, of_demo, who, with_config, with_gateway

if TYPE_CHECKING:
    import argparse

    from ext_proc.app.evidence.custody import Person
    from ext_proc.audit.erasure import Order

_ERASE = """Destroys the person's key: what was sealed with it stays where it is, proven and unreadable. Each step
is a record. A legal hold forbids it. Run again after a crash, it finishes what was begun.

Exit status: 0 no key of the person is left, 1 refused by a hold or never had one, 2 could not run."""


_HOLD = """While a hold is in force nobody can erase the person's content. A person has as many holds as there are
cases; placed again under its name, a hold gets the new end."""


_ROTATE = """COPY is the configuration with the new key under audit.signing, and nothing else changed. Writes a
manifest, signed by both keys, into the bucket (v1/keys/) and a record; changes no file here, and says what
to do next."""


_CANARY = """Lays a small bait in the bucket and tries, with the gateway's own credentials, to delete, shorten,
overwrite and unlock it. The gateway does so itself at start and daily (audit.canary_hours). What was found
is a record. Exit status 1 if the store let anything happen."""


def add_custody(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands on people, keys and locks."""
    erase = add(commands, "erase", "destroy a person's key, so that nobody can read their content", _ERASE)
    _with_person(erase)
    _with_order(erase)
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument("--json", action="store_true", help="for machines: one JSON object")
    with_gateway(erase)
    erase.set_defaults(run=_erase)
    holds = add(commands, "legal-hold", "forbid that a person's content is erased", _HOLD)
    actions = holds.add_subparsers(title="actions", metavar="ACTION", required=True)
    place = add(actions, "place", "forbid it, for a case")
    release = add(actions, "release", "the case is over")
    for action in (place, release):
        _with_person(action)
        action.add_argument("--name", required=True, metavar="CASE", help="the hold's name, for example case-2026-17")
        _with_order(action)
        with_gateway(action)
    place.add_argument("--until", metavar="TIME", help="when it ends by itself (default: when it is released)")
    place.set_defaults(run=_place_hold)
    release.set_defaults(run=_release_hold)
    listing = add(actions, "list", "the holds in force, of everybody or of one person")
    _with_person(listing, is_required=False)
    listing.add_argument("--json", action="store_true", help="for machines: one JSON object a line")
    with_gateway(listing)
    listing.set_defaults(run=_list_holds)
    keys = add(commands, "keys", "the keys that sign the log")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = add(actions, "create", "make a key file")
    create.add_argument("file", type=Path, metavar="FILE")
    create.set_defaults(run=_create_key)
    rotate = add(actions, "rotate", "introduce the next key, by the one before it", _ROTATE)
    with_config(rotate)
    rotate.add_argument("--new-config", type=Path, required=True, metavar="COPY", help="names the new key")
    rotate.add_argument(
        "--handover-hours",
        type=hours,
        default=24,
        metavar="HOURS",
        help="how long the old key still counts, to restart every replica in (default: 24; 0: it was stolen)",
    )
    rotate.set_defaults(run=_rotate_keys)
    canary = add(commands, "canary", "try whether the store keeps what it locks", _CANARY)
    gateway = canary.add_mutually_exclusive_group(required=True)
    gateway.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help="the configuration (YAML); given again, the stores are shown side by side",
    )
    of_demo(gateway)
    canary.add_argument("--json", action="store_true", help="for machines: one JSON object")
    canary.set_defaults(run=_canary)


def _with_person(command: argparse.ArgumentParser, *, is_required: bool = True) -> None:
    person = command.add_mutually_exclusive_group(required=is_required)
    person.add_argument("--subject", metavar="S", help="the person, as the token or certificate names them")
    person.add_argument("--reference", metavar="REF", help="or as records do: actor.subject_ref (hmac-sha256:...)")
    command.add_argument("--issuer", metavar="URL", help="of the token (default: the only one configured)")
    command.add_argument("--tenant", metavar="T", help="the token's tenant, if it has one")


def _with_order(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reason", required=True, metavar="TEXT", help="stands in the log for ever: a ticket, say")
    command.add_argument("--by", default=who(), metavar="WHO", help="by whose order, likewise (default: your login)")


def _erase(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import custody

    order, path = _order(options), commands.path_of(options.config, options.endpoints)
    return custody.erase(path, _person(options), order, is_sure=options.yes, as_json=options.json)


def _place_hold(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import custody

    path = commands.path_of(options.config, options.endpoints)
    return custody.place_hold(path, _person(options), options.name, options.until, _order(options))


def _release_hold(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import custody

    path = commands.path_of(options.config, options.endpoints)
    return custody.release_hold(path, _person(options), options.name, _order(options))


def _list_holds(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import custody

    person = _person(options) if options.subject or options.reference else None
    return custody.list_holds(commands.path_of(options.config, options.endpoints), person, as_json=options.json)


def _create_key(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import custody

    return custody.create_key(options.file)


def _rotate_keys(options: argparse.Namespace) -> int:
    from ext_proc.app.evidence import custody

    return custody.rotate_keys(options.config, options.new_config, options.handover_hours)


def _canary(options: argparse.Namespace) -> int:
    from ext_proc.app import commands
    from ext_proc.app.evidence import canary

    return canary.run(options.config or [commands.path_of(None, options.endpoints)], as_json=options.json)


def _person(options: argparse.Namespace) -> Person:
    from ext_proc.app.evidence.custody import Person

    return Person(options.reference, options.subject, options.issuer, options.tenant)


def _order(options: argparse.Namespace) -> Order:
    from ext_proc.audit.erasure import Order

    return Order(options.reason, options.by)
