"""Are the documents true of the code, as far as a program can tell?"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ext_proc import config
from ext_proc.audit import kinds
from ext_proc.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = ("command-line.md", "configuration.md", "policy-input.md", "states.md")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ROOMS = "inference|log|config|epoch|access|digest|worm|segment|reconcile|rollup|erasure|legalhold"
_KIND = re.compile(rf'"((?:{_ROOMS})\.(?!yaml|vkey|jsonl)[a-z_]+)"')
_PATH = re.compile(r"`((?:tests|opa|ext_proc|envoy|scripts|docs|bench)/[A-Za-z0-9_./-]*)`")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, dashes for blanks."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_documents() -> None:
    names = {_name(path) for path in DOCUMENTS}

    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()

    for link in _LINK.findall(_FENCE.sub("", text)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in _anchors(target.read_text()), f"{link}: no such heading"


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name not in GENERATED], ids=_name)
def test_named_files_are_there(document: Path) -> None:
    for name in _PATH.findall(document.read_text()):
        assert (ROOT / name).exists() or name.startswith(_MADE), f"{name} is not there"


# Made by running something, or by the reader in the README's tour.
_MADE = ("opa/inference/concerns/hours/hours.rego", "bench/out/", "build/")


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "operating.md"], ids=_name)
def test_commands_exist(document: Path) -> None:
    said = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?affidavit (.+)$", document.read_text(), re.MULTILINE)
    assert said

    for line in said:
        if line.startswith("serve") or "reload" in line or "check-config" in line:
            assert "--config" in line or "--endpoints" in line
        build_parser().parse_args(shlex.split(line, comments=True))  # exits if it does not parse


def test_the_complete_configuration_is_valid(tmp_path: Path) -> None:
    [whole] = [text for kind, text in _FENCE.findall((ROOT / "docs" / "operating.md").read_text()) if kind == "yaml"]
    file = tmp_path / "config.yaml"
    file.write_text(whole)

    read, _ = config.load(file)

    assert [one.name for one in read.connections] == ["openai"]


def test_the_connection_of_the_readme_is_valid(tmp_path: Path) -> None:
    [whole] = [text for kind, text in _FENCE.findall((ROOT / "docs" / "operating.md").read_text()) if kind == "yaml"]
    [added] = [text for kind, text in _FENCE.findall((ROOT / "README.md").read_text()) if kind == "yaml"]
    made = yaml.safe_load(whole)
    made["connections"] += yaml.safe_load(added)["connections"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(made))

    read, _ = config.load(file)

    assert [one.name for one in read.connections] == ["openai", "claude"]


def test_the_second_connection_of_the_readme_is_taken(tmp_path: Path) -> None:
    """Run as it stands, on a configuration such as the demo's."""
    [whole] = [text for kind, text in _FENCE.findall((ROOT / "docs" / "operating.md").read_text()) if kind == "yaml"]
    _, program = [text for kind, text in _FENCE.findall((ROOT / "README.md").read_text()) if kind == "python"]
    file, endpoints = tmp_path / "config.yaml", tmp_path / "demo.json"
    file.write_text(whole)
    endpoints.write_text(json.dumps({"config": str(file)}))
    assert "/tmp/demo.json" in program

    exec(compile(program.replace("/tmp/demo.json", str(endpoints)), "second.py", "exec"), {})

    first, second = config.load(file)[0].connections
    assert (second.name, second.hosts) == ("second", ["second.example"])
    assert (second.upstream, second.operations) == (first.upstream, first.operations)


def test_every_kind_of_leaf_is_described() -> None:
    """In the table of section 4, and by a schema; and nothing is written of which they do not tell."""
    text = (ROOT / "docs" / "record-format.md").read_text()
    section = text[text.index("\n## 4. ") : text.index("\n## 5. ")]
    first_cells = re.findall(r"^\| (`[a-z]+\.[a-z_]+`.*?|`heartbeat`) \|", section, re.MULTILINE)
    described = {kind for cell in first_cells for kind in re.findall(r"`([a-z_.]+)`", cell)}
    written = {kind for file in (ROOT / "ext_proc").rglob("*.py") for kind in _KIND.findall(file.read_text())}

    assert described == set(kinds.KINDS)
    assert written <= described
    assert {path.stem for path in (ROOT / "docs" / "schemas" / "leaf").iterdir()} == described


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    there = {path.name for path in folder.glob("0*.md")}

    assert set(_LINK.findall((folder / "README.md").read_text())) == there


def test_the_licence_is_the_standard_text() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()

    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # apache.org's LICENSE-2.0.txt
