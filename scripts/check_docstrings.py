"""Are the ``Args:`` of classes true? Each names the parameters of ``__init__`` (or a dataclass's fields) in order.

Ruff holds functions to this (D417, DOC102, DOC202, DOC403) but does not look at the docstrings of classes.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "ext_proc"
_SECTION = re.compile(r"^Args:\n((?:[ ]{4}.*(?:\n|$)|\n)*)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+):", re.MULTILINE)


def main() -> int:
    """Tell each class whose docstring is not true. Exit status 1 if there is one."""
    checked = 0
    wrong: list[str] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            section = _SECTION.search(ast.get_docstring(node) or "")
            if section is None:
                continue
            checked += 1
            told, there = _ARGUMENT.findall(section[1]), _parameters(node)
            if told != there:
                wrong.append(f"{file}:{node.lineno}: {node.name}: docstring has {told}, code has {there}")
    print("\n".join(wrong) if wrong else f"docstrings: the arguments of {checked} classes are true")
    return 1 if wrong else 0


def _parameters(node: ast.ClassDef) -> list[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)][1:]
    named = [
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return [name for name in named if not name.startswith("_")]  # a private field is no argument (`init=False`)


if __name__ == "__main__":
    sys.exit(main())
