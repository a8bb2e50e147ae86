"""``affidavit policy``: what is done with recorded decisions, and with bundles."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc.cli.building import add, name_gateway, who, with_opa

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ext_proc.app.logs import Journal
    from ext_proc.audit.keys import KeyRing
    from ext_proc.config import Config
    from ext_proc.evidence.versions import VersionedStore

_RERUN: Final = """Opens what the policy was asked (that is on record first), fetches the bundle by the digest that
the record names, checks it, asks OPA without a network, and compares the answers field by field.

  affidavit policy rerun EXCHANGE --config config.yaml
  affidavit policy rerun --all --since 2h --config config.yaml

Exit status: 0 the same answer each time, 1 not, or a bundle or question cannot be had, 2 could not run."""


def add_recorded(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Actions of ``affidavit policy``."""
    rerun = add(actions, "rerun", "would the policy that decided decide the same again?", _RERUN)
    which = rerun.add_mutually_exclusive_group(required=True)
    which.add_argument("exchange", nargs="?", metavar="EXCHANGE", help="the id: header x-affidavit-exchange")
    which.add_argument("--all", action="store_true", help="every decision between --since and --until")
    with_records(rerun)
    with_opa(rerun)
    rerun.add_argument("--since", metavar="TIME", help="nothing older: 2026-11-25, 2026-11-25T10:30, 2h (ago); in UTC")
    rerun.add_argument("--until", metavar="TIME", help="nothing newer; a day means its end")
    rerun.add_argument("--json", action="store_true", help="for machines: one JSON object a decision")
    rerun.set_defaults(run=_rerun, purpose="rerun")
    _add_backtest(actions)
    _add_build(actions)


_BUILD: Final = """Equal sources give an equal revision (and, unless ECDSA signs them, equal bytes). Tests and
schemas stay out. What answers differently each time (time.now_ns, http.send, rand.intn ...) is refused: its decisions
could not be made again. --number is the bundle's place in the line: OPA gets only what is newer than what it has, so
to go back, build the old sources with a new number.

  openssl ecparam -name prime256v1 -genkey -noout -out policy-key.pem
  openssl ec -in policy-key.pem -pubout -out policy-key.pub
  affidavit policy build opa --out bundle.tar.gz --number 8 \\
    --sign policy-key.pem --key-id policy-2026"""


def _add_build(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    build = add(actions, "build", "make the bundle of a policy, and sign it", _BUILD)
    build.add_argument("sources", type=Path, metavar="DIR", help="the folder of the sources")
    build.add_argument("--out", type=Path, required=True, metavar="FILE", help="the bundle; replaced at once")
    build.add_argument("--number", type=int, metavar="N", help="larger than that of the bundle before")
    build.add_argument("--sign", type=Path, metavar="KEY", help="sign with this private key (PEM); needs --key-id")
    build.add_argument("--key-id", metavar="NAME", help="policy.distribution.key_id of the gateways")
    build.add_argument("--algorithm", default="ES256", metavar="NAME", help="as OPA names it (default: ES256)")
    build.add_argument("--opa", type=Path, metavar="PROGRAM", help="the OPA program (default: .tools/bin/opa, or PATH)")
    build.add_argument("--json", action="store_true", help="for machines: one JSON object")
    build.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import rerun

    return rerun.build(options)


_BACKTEST: Final = """BUNDLE is a folder of policy sources, or a bundle file. Every question on record between --from
and --to is opened (that is on record first) and asked of it, without a network; what it says is held against what
was decided then.

  affidavit policy backtest --bundle opa --from 7d --config config.yaml \\
    --html backtest.html

Exit status: 0 it decides the same everywhere, 1 not, or there was nothing to ask, 2 could not run."""


def _add_backtest(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backtest = add(actions, "backtest", "what would a candidate have decided?", _BACKTEST)
    backtest.add_argument("--bundle", type=Path, required=True, metavar="BUNDLE", help="the candidate")
    backtest.add_argument(
        "--from", "--since", dest="since", metavar="TIME", help="nothing older: 2026-11-25, 7d (ago); in UTC"
    )
    backtest.add_argument("--to", "--until", dest="until", metavar="TIME", help="nothing newer; a day means its end")
    backtest.add_argument("--html", type=Path, metavar="FILE", help="also write a page")
    with_records(backtest)
    with_opa(backtest)
    backtest.add_argument("--json", action="store_true", help="for machines: one JSON object")
    backtest.set_defaults(run=_backtest, purpose="backtest")


def _backtest(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import backtest

    with records(options) as (config, store, keyring, journal):
        console = config.console.public_url if config.console else None
        return backtest.run(store, options, decision_of(config), keyring, journal, console)


def with_records(command: argparse.ArgumentParser, *, always: bool = True) -> None:
    """Whose evidence is read, and by whom. ``always``: the command reads some, whatever else is said."""
    name_gateway(command.add_mutually_exclusive_group(required=always))
    command.add_argument(
        "--source", metavar="SOURCE", help="read s3://bucket/prefix or an export instead of the configured bucket"
    )
    command.add_argument(
        "--by", default=who(), metavar="WHO", help="who reads: stands in the log for ever (default: your login)"
    )


@contextmanager
def records(options: argparse.Namespace) -> Iterator[tuple[Config, VersionedStore, KeyRing, Journal]]:
    """The evidence, the keys, and a log of this command's own: nobody reads payloads unrecorded."""
    from ext_proc.app import commands, registry
    from ext_proc.app.evidence import auditing
    from ext_proc.app.logs import Journal

    config, digest = commands.config_of(options.config, options.endpoints)
    store = auditing.store_of_source(options.source, config)
    keyring = registry.keyring(config)
    with Journal(config, digest, "command", keyring) as journal:
        yield config, store, keyring, journal


def _rerun(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import rerun

    with records(options) as (config, store, keyring, journal):
        return rerun.run(store, options, decision_of(config), keyring, journal)


def decision_of(config: Config) -> str:
    """The rule that decides, with dots."""
    return f"{config.policy.package.replace('/', '.')}.{config.policy.rule}"
