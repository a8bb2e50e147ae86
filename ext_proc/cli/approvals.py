"""``approvals``: what waits for people, from a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add, count, name_gateway

if TYPE_CHECKING:
    import argparse

    from ext_proc.app.approval.approving import Desk

_APPROVALS = """What waits for people to agree, from a terminal. Who is acting is whom the token says (--token, or
AFFIDAVIT_TOKEN): the rules are those of the console, and everything is on record. Where the console is, --url says,
or its configuration (--config), or the endpoints file of a demo.

A whole round. Somebody calls a model for which the policy wants a second person, and waits (a call of your own you
cannot approve). As an approver:

  export AFFIDAVIT_TOKEN=$(affidavit demo token --subject bob \\
    --groups approvers --endpoints /tmp/demo.json)
  affidavit approvals list --endpoints /tmp/demo.json     # first column: ID
  affidavit approvals show ID --endpoints /tmp/demo.json  # who asks, and why
  affidavit approvals approve ID --endpoints /tmp/demo.json \\
    --justification "case 2026-17, spoken about with Ada"

and the caller has the answer. `deny` instead: the caller gets 403. Where two people must agree, the first one is told
so, and the call waits on.

Exit status: 0 done, 1 refused (it says why), 2 could not run: no token, no address, no answer."""


_CHANNELS = """A test message on each channel of the configuration (approvals.channels): `sent`, or why not in a word.
Exit status: 0 all were sent, 1 one was not, 2 could not run."""


def add_approvals(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its actions."""
    approvals = add(commands, "approvals", "calls that wait for people: list, show, approve, deny", _APPROVALS)
    actions = approvals.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add(actions, "list", "what waits for somebody like you, the oldest first")
    listing.add_argument("--limit", type=count, default=50, metavar="N", help="at most N (default: 50)")
    show = add(actions, "show", "one call: who, what, why it waits, and what the model would get")
    show.add_argument("--clear", action="store_true", help="as it came, if the policy lets you read that")
    approve = add(actions, "approve", "agree: the call passes once, if enough people do")
    deny = add(actions, "deny", "do not agree: the call is refused")
    channels = add(actions, "channels", "where approvers hear of calls that wait")
    told = channels.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = add(told, "test", "send a test message on each channel, and say what came back", _CHANNELS)
    test.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration (YAML)")
    test.add_argument("--json", action="store_true", help="for machines")
    test.set_defaults(run=_test_channels)
    for answer, action in (("approve", approve), ("deny", deny)):
        action.add_argument(
            "--justification", required=True, metavar="TEXT", help="why: kept, encrypted, with the record"
        )
        action.set_defaults(answer=answer)
    for action, run in ((listing, _list_approvals), (show, _show_approval), (approve, _resolve), (deny, _resolve)):
        if action is not listing:
            action.add_argument("hold", metavar="ID")
        where = action.add_mutually_exclusive_group()
        where.add_argument("--url", metavar="URL", help="the console's address")
        name_gateway(where)
        action.add_argument(
            "--token", metavar="TOKEN", help="who is acting (default: AFFIDAVIT_TOKEN in the environment)"
        )
        action.add_argument("--json", action="store_true", help="for machines: what the API says")
        action.set_defaults(run=run)


def _test_channels(options: argparse.Namespace) -> int:
    from ext_proc.app.approval import channels

    return channels.tested(options.config, as_json=options.json)


def _list_approvals(options: argparse.Namespace) -> int:
    from ext_proc.app.approval import approving

    return approving.listed(_desk(options), limit=options.limit, as_json=options.json)


def _show_approval(options: argparse.Namespace) -> int:
    from ext_proc.app.approval import approving

    return approving.shown(_desk(options), options.hold, wants_clear=options.clear, as_json=options.json)


def _resolve(options: argparse.Namespace) -> int:
    from ext_proc.app.approval import approving

    desk = _desk(options)
    return approving.resolve(desk, options.hold, options.answer, options.justification, as_json=options.json)


def _desk(options: argparse.Namespace) -> Desk:
    from ext_proc.app.approval.approving import Desk

    return Desk.of(options.url, options.config, options.endpoints, options.token)
