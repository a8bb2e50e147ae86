"""`redaction.ner` and `connections[].ner`: what may be said, and what contradicts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app import registry
from ext_proc.app.serving import supervisor
from ext_proc.config import Config, load
from ext_proc.errors import ConfigError
from ext_proc.model import Recognition
from tests.fakes.configured import a_config
from tests.fakes.recogniser import MAKE_NAUGHTY
from tests.unit.test_config import VALID

if TYPE_CHECKING:
    from pathlib import Path

SPACY = {"adapter": "spacy"}


def loaded(tmp_path: Path, recogniser: Any, connection: Any, **more: Any) -> Config:
    told = {
        **VALID,
        "redaction": {**VALID["redaction"], **({"ner": recogniser} if recogniser is not None else {})},
        "connections": [{**VALID["connections"][0], **({"ner": connection} if connection is not None else {})}],
        **more,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(told).replace("'off'", "off"))  # as an operator writes it
    return load(path)[0]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, Recognition("sentence", may_fail=False)),
        ({"streams": "off"}, Recognition("off", may_fail=False)),
        ({"streams": "window", "on_failure": "pass"}, Recognition("window", may_fail=True)),
    ],
)
def test_a_connection(tmp_path: Path, told: Any, wanted: Recognition) -> None:
    config = loaded(tmp_path, SPACY, told)
    assert registry.connections(config)["model"].recognition == wanted
    assert registry.recogniser(config) is not None


def test_nothing_said_nothing_looked_for(tmp_path: Path) -> None:
    for connection in (None, {"mode": "off"}):
        config = loaded(tmp_path, None, connection)
        assert registry.connections(config)["model"].recognition is None
        assert registry.recogniser(config) is None


@pytest.mark.parametrize(
    ("recogniser", "connection", "said"),
    [
        (None, {}, "redaction.ner: connection model looks for names, but there is no recogniser"),
        (SPACY, None, "redaction.ner: no connection has ner"),
        (SPACY, {"mode": "off"}, "redaction.ner: no connection has ner"),
        (SPACY, {"mode": "off", "streams": "window"}, "streams: window cannot be with mode off"),
        (SPACY, {"streams": "words"}, "'off', 'window' or 'sentence'"),
        (SPACY, {"on_failure": "shrug"}, "'block' or 'pass'"),
        ({"adapter": "flair"}, {}, "redaction.ner.adapter: must be spacy, presidio, or the import path"),
        ({"adapter": "os.system"}, {}, "redaction.ner.adapter: must be spacy"),
        ({"adapter": "spacy", "score_min": 0.9}, {}, "score_min: spaCy says 0.85 of every find"),
        ({"adapter": "spacy", "entities": []}, {}, "redaction.ner.entities"),
        ({"adapter": "spacy", "entities": ["PERSON", "PERSON"]}, {}, "entities: twice PERSON"),
        ({"adapter": "spacy", "entities": ["SECRET_NAME"]}, {}, "nothing that only rules may find"),
        ({"adapter": "spacy", "entities": ["person"]}, {}, "capitals, digits and _"),
        ({"adapter": "spacy", "deadline_ms": 60_000}, {}, "redaction.ner.deadline_ms: must be less than"),
        ({"adapter": "spacy", "workers": 0}, {}, "redaction.ner.workers"),
        ({"adapter": "spacy", "model": "x"}, {}, "redaction.ner.model: unknown field"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, recogniser: Any, connection: Any, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, recogniser, connection)
    assert said in told.value.detail


@pytest.mark.parametrize("adapter", ["spacy", "presidio", "acme.names:make", "_a1._b:C"])
def test_adapters(tmp_path: Path, adapter: str) -> None:
    options = {"model": "xx_acme", "labels": {"PER": "PERSON"}, "words": ["a"], "n": 1, "is_it": True, "share": 0.5}
    section = loaded(tmp_path, {"adapter": adapter, "options": options}, {}).redaction.ner
    assert section is not None
    assert section.options == options


@pytest.mark.parametrize(("options", "said"), [({}, None), ({"refuse": 1}, "redaction.ner.options.refuse: not today")])
def test_serve_finds_out_first_whether_it_loads(tmp_path: Path, options: dict[str, int], said: str | None) -> None:
    """Else every worker would end, and be started again, for ever."""
    a_config(tmp_path)
    path = tmp_path / "config.yaml"
    told = yaml.safe_load(path.read_text())
    told["redaction"]["ner"] = {"adapter": MAKE_NAUGHTY, "options": options}
    told["connections"][0]["ner"] = {}
    path.write_text(yaml.safe_dump(told))
    config = load(path)[0]
    if said is None:
        supervisor._check_files(config)
        return
    with pytest.raises(ConfigError) as refused:
        supervisor._check_files(config)
    assert refused.value.detail == said
