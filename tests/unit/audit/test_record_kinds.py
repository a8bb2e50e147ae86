"""Each word of the record's stands once in the code of the gateway, and the verifier's own copy says the same."""

from __future__ import annotations

import ast
from pathlib import Path

import ext_proc
from ext_proc.audit import kinds
from ext_proc.record_kinds import LeafKind, PayloadRole

PACKAGE = Path(ext_proc.__file__).parent
OWN_WORDS = ("record_kinds.py", "verify/", "console/seen.py")
"""The verifier shares nothing; the API's types are read as they stand."""


def _literals(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_kind_has_its_fields_described() -> None:
    assert list(kinds.KINDS) == list(LeafKind)


def test_kinds_and_roles_are_named_not_spelt() -> None:
    words = {*LeafKind, *PayloadRole}
    files = {str(file.relative_to(PACKAGE)): file for file in PACKAGE.rglob("*.py")}

    spelt = {name: _literals(file) & words for name, file in files.items() if not name.startswith(OWN_WORDS)}

    assert {name: found for name, found in spelt.items() if found} == {}
    assert _literals(PACKAGE / "verify" / "leaves.py") & words
