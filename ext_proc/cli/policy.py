"""``affidavit policy``: what authors of policies type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc.cli.building import add, count, with_opa
from ext_proc.cli.recorded import decision_of, records, with_records
from ext_proc.errors import ConfigError
from ext_proc.policy.trial.defaults import DECISION, OPEN, QUESTIONS, SEED

if TYPE_CHECKING:
    import argparse

SOURCES: Final = Path("opa")
_CHECK: Final = """DIR holds policy sources, as `opa/` does. First what can be said without asking: `opa fmt`, `opa
check --strict` against the schemas, nothing that answers differently each time (time.now_ns, http.send ...). Then:
hundreds of questions, made from the schema and the words of the policy (or yours: --inputs), are asked, spoiled in
one field at a time (left out, null, another type, a word that nobody knows, numbers out of range), and asked
again. Each case where a denial becomes a permission, people need not agree any more, less is masked, or something
unknown is allowed is a finding, with the rule that made the difference.

  affidavit policy check opa
  affidavit policy check opa --sarif policy.sarif --junit policy.xml

Exit status: 0 nothing found, 1 something was found, 2 could not run."""

_TRY: Final = """FILE is a question as docs/policy-input.md has it (`-`: standard input). Shows the decision, the
texts of its reasons, and what each concern says.

  affidavit policy try --input opa/samples/chat.json --watch

Exit status: 0 allowed (perhaps after people agree), 1 not allowed, 2 could not run."""

_EXPLAIN: Final = """QUESTION is a file with a question (`-`: standard input), or the id of an exchange: its question is
opened (that is on record first) and asked of the bundle that decided, out of the bucket and checked by its digest; or
of the sources that --policy names. Shows the lines of the sources that were looked at (`opa eval --coverage`), and
marks the rules that gave a value.

  affidavit policy explain opa/samples/secret.json
  affidavit policy explain EXCHANGE --config config.yaml

Exit status: 0 allowed (perhaps after people agree), 1 not allowed, 2 could not run."""


def add_policy(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The command with its actions, which are returned so that others can be added."""
    policy = add(commands, "policy", "check, try and explain a policy; build its bundle; make recorded decisions again")
    actions = policy.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = add(actions, "check", "does a policy compile, and does it fail closed?", _CHECK)
    check.add_argument("policy", type=Path, metavar="DIR", help="the folder of the sources")
    check.add_argument("--inputs", type=Path, metavar="PATH", help="questions: a file or folder of .json and .jsonl")
    check.add_argument(
        "--questions", type=count, default=QUESTIONS, metavar="N", help=f"how many to make (default: {QUESTIONS})"
    )
    check.add_argument("--seed", type=int, default=SEED, metavar="N", help="for other questions than last time")
    check.add_argument(
        "--any",
        action="append",
        default=[],
        choices=OPEN,
        dest="may_be_unknown",
        metavar="FIELD",
        help=f"the policy means to allow what it does not know there: {', '.join(OPEN)}; may be given again",
    )
    check.add_argument("--json", action="store_true", help="for machines: one JSON object")
    check.add_argument("--junit", type=Path, metavar="FILE", help="also write a JUnit report")
    check.add_argument("--sarif", type=Path, metavar="FILE", help="also write a SARIF report")
    with_opa(check)
    _with_decision(check)
    check.set_defaults(run=_check)
    trial = add(actions, "try", "decide one question", _TRY)
    trial.add_argument("--input", type=Path, required=True, metavar="FILE", help="the question")
    trial.add_argument("--watch", action="store_true", help="decide again whenever a file changes")
    explain = add(actions, "explain", "show which rules decided a question", _EXPLAIN)
    explain.add_argument("question", metavar="QUESTION", help="a file with the question, or the id of an exchange")
    with_records(explain, always=False)
    bundles = "; for an exchange: the bundle that decided"
    for command, run, more in ((trial, _try, ""), (explain, _explain, bundles)):
        command.add_argument("--policy", type=Path, metavar="DIR", help=f"the sources (default: opa{more})")
        command.add_argument("--json", action="store_true", help="for machines: one JSON object")
        with_opa(command)
        _with_decision(command)
        command.set_defaults(run=run)
    explain.set_defaults(purpose="explain", decision=None)  # of an exchange the configuration says which
    return actions


def _with_decision(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--decision", default=DECISION, metavar="RULE", help=f"the rule that the gate asks for (default: {DECISION})"
    )


def _check(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import policy_check

    wanted = policy_check.CheckOptions(
        options.policy,
        options.opa,
        options.inputs,
        options.questions,
        options.seed,
        tuple(options.may_be_unknown),
        options.decision,
    )
    return policy_check.run(wanted, as_json=options.json, junit=options.junit, sarif=options.sarif)


def _try(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import policy_try

    sources, as_json = options.policy or SOURCES, options.json
    return policy_try.run(sources, options.input, options.opa, options.decision, as_json=as_json, watch=options.watch)


def _explain(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring import explaining, policy_try

    if options.question == "-" or Path(options.question).exists():
        decision = options.decision or DECISION
        return policy_try.explain(
            options.policy or SOURCES, options.question, options.opa, decision, as_json=options.json
        )
    if options.config is None and options.endpoints is None:
        raise ConfigError(
            f"{options.question}: No such file; for the id of an exchange name the gateway: --config FILE, or "
            "--endpoints FILE of a running demo"
        )
    with records(options) as (config, store, keyring, journal):
        return explaining.run(store, options, decision_of(config), keyring, journal)
