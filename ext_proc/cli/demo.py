"""``demo``: everything on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add

if TYPE_CHECKING:
    import argparse

_DEMO = """Envoy, OPA, an S3 server that enforces locks, an OIDC issuer, a small real model and the gate, on loopback
and free ports. Without --keep each step of the story is checked; exit status 0 only if all were as told.

  affidavit demo --keep --endpoints /tmp/demo.json
  affidavit demo token --subject ada --groups analysts \\
    --endpoints /tmp/demo.json
  affidavit records list --endpoints /tmp/demo.json"""


_FOR_CALLERS = """Use it as the API key of an OpenAI or Anthropic client; it is good for an hour. The demo's policy
lets the group `analysts` call the model `demo`."""


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command, and its action for tokens."""
    demo = add(commands, "demo", "run everything on this machine and tell the story", _DEMO)
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C instead of telling the story")
    demo.add_argument("--endpoints", type=Path, metavar="FILE", help="where to write what is where (JSON)")
    demo.add_argument("--upstream", metavar="URL", help="another model server behind the connection")
    demo.add_argument("--policy", type=Path, metavar="DIR", help="another policy than opa/ (with --keep)")
    demo.set_defaults(run=_demo)
    actions = demo.add_subparsers(title="actions", metavar="ACTION")
    token = add(actions, "token", "print an access token of the demo's issuer", _FOR_CALLERS)
    token.add_argument("--subject", required=True, help="who the token says you are")
    token.add_argument("--groups", nargs="*", default=[], metavar="GROUP", help="the groups that it puts you in")
    token.add_argument(
        "--endpoints", type=Path, required=True, metavar="FILE", help="the file that `demo --keep` wrote"
    )
    token.set_defaults(run=_demo_token)


def _demo(options: argparse.Namespace) -> int:
    from ext_proc.demo import run_demo

    return run_demo(keep=options.keep, endpoints=options.endpoints, upstream=options.upstream, policy=options.policy)


def _demo_token(options: argparse.Namespace) -> int:
    from ext_proc.demo import print_token

    return print_token(options.subject, options.groups, options.endpoints)
