"""A log's name is taken apart in one place; what is none is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ext_proc
from ext_proc.audit.origin import Origin
from ext_proc.evidence.names import LogName

EPOCH = "20261124T120000000000-0123abcd"


def test_a_name_is_taken_apart() -> None:
    name = Origin.read(f"gate.example/eu/blue-7-12/{EPOCH}")

    assert (name.gateway, name.replica, name.role, name.epoch) == ("gate.example/eu", "blue-7", "12", EPOCH)
    assert name.is_of_worker
    assert name.name == f"blue-7-12/{EPOCH}"
    assert str(name) == f"gate.example/eu/blue-7-12/{EPOCH}"
    assert LogName.of_origin(str(name)) == LogName("blue-7-12", EPOCH)


@pytest.mark.parametrize("role", ["shipper", "command"])
def test_other_logs_are_not_a_workers(role: str) -> None:
    name = Origin.read(f"gate/blue-{role}/{EPOCH}")

    assert (name.role, name.is_of_worker) == (role, False)


@pytest.mark.parametrize("text", ["", "None", f"blue-0/{EPOCH}"])
def test_what_has_not_three_parts_is_no_name(text: str) -> None:
    assert Origin.find(text) is None
    with pytest.raises(ValueError, match="not the name of a log"):
        Origin.read(text)


def test_nobody_else_takes_one_apart() -> None:
    apart = re.compile(r"""origin['"\]]*\.r?(?:split|partition)\(""")
    files = [file for file in Path(ext_proc.__file__).parent.rglob("*.py") if file.parent.name != "verify"]

    assert [file.name for file in files if apart.search(file.read_text())] == []
