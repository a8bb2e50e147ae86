"""``rules`` and ``fields``: rules of redaction tried before a gateway runs with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.cli.building import add

if TYPE_CHECKING:
    import argparse

_RULES_TEST = """FILE is a pack of your own (docs/redaction.md, section `Your own rules`); without it, the built-in
packs are tried. Shows the samples that did not do as they say, how fast the rules are, and, with --stdin, what they
find in a text of yours. A pack with a rule that could be slow or hold a stream back for ever is refused: with the
reason, and with what to write instead. Of a hit that is not found it says whether the anchor, the pattern,
the validator or the distance between them is why.

  affidavit rules test my-rules.yaml
  echo 'my badge is XY-1234' | affidavit rules test my-rules.yaml --stdin

Exit status: 0 all samples as they say, 1 some are not, 2 the pack is refused or cannot be read."""


_FIELDS_TEST = """RULES is a YAML file with rules for fields (docs/redaction.md, section `Fields`): as under
`redaction.fields` of a connection, `request` and `response` with a list each, or one list. BODY is a body of your own
(`-`: standard input). Shows it before and after, with what was taken out and what was not scanned. What the scan finds
beside is masked, as if the policy said nothing of it.

  affidavit fields test rules.yaml request.json
  affidavit fields test rules.yaml answer.json --answer --protocol openai.chat
  affidavit fields test rules.yaml answer.sse --answer --protocol openai.chat

Exit status: 0 it passes, 1 a rule blocks it, 2 the rules or the body are refused or cannot be read."""


_PROTOCOLS = """openai.chat, openai.completions, openai.responses, openai.embeddings, anthropic.messages,
anthropic.count_tokens, or generic (default)"""


def add_rules(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rules test`."""
    rules = add(commands, "rules", "what is looked for in texts")
    actions = rules.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = add(actions, "test", "try a pack of rules on its samples and on a text", _RULES_TEST)
    test.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the pack (default: the built-in ones)")
    test.add_argument("--stdin", action="store_true", help="also show what is found in the text on standard input")
    test.add_argument("--json", action="store_true", help="for machines: one JSON object")
    test.set_defaults(run=_test_rules)


def add_fields(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `fields test`."""
    fields = add(commands, "fields", "what is done with the fields of bodies")
    actions = fields.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = add(actions, "test", "try rules for fields on a body", _FIELDS_TEST)
    test.add_argument("rules", type=Path, metavar="RULES", help="the rules")
    test.add_argument("body", type=Path, metavar="BODY", help="a JSON body, or a stream of events (with --answer)")
    test.add_argument("--answer", action="store_true", help="the body is a model's answer (default: a request)")
    test.add_argument("--protocol", default="generic", metavar="NAME", help=_PROTOCOLS)
    test.add_argument("--json", action="store_true", help="for machines: one JSON object")
    test.set_defaults(run=_test_fields)


def _test_rules(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring.rules import run

    return run(options.file, reads_stdin=options.stdin, as_json=options.json)


def _test_fields(options: argparse.Namespace) -> int:
    from ext_proc.app.authoring.field_trial import run

    return run(options.rules, options.body, options.protocol, is_answer=options.answer, as_json=options.json)
