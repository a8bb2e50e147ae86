"""`opa_program`: asked in lots as one by one, and what goes wrong is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import ConfigError
from ext_proc.policy.trial import opa_program
from tests.fakes.policies import ORDINARY, chat, write
from tests.fakes.policy import ROOT
from tests.fakes.policy import opa_program as program

if TYPE_CHECKING:
    from pathlib import Path


def test_lots_are_answered_as_one_by_one() -> None:
    """In order, more than one lot, the undefined among them."""
    asked = [chat(request={"model": model}) for model in ("demo", "demo-restricted", "nobodys")]
    asked = [asked[number % 3] for number in range(2 * opa_program.LOT + 7)]
    told: list[int] = []
    with opa_program.serving(program(), ROOT / "opa") as server:
        answers = server.ask_all(asked, told.append)
        assert answers[:3] == [server.ask(one) for one in asked[:3]]
        assert server.asked == len(asked) + 3

    assert answers == [answers[number % 3] for number in range(len(asked))]
    assert sum(told) == len(asked)
    assert [answer["allow"] for answer in answers[:3]] == [True, True, False]


def test_errors_in_built_ins_are_no_decision_when_asked_strictly(tmp_path: Path) -> None:
    folder = write(tmp_path, ORDINARY)
    fine = chat(request={"model": "gpt-small"}, findings={})
    broken = {**fine, "source": {"address": "nowhere", "user_agent": ""}}
    with opa_program.serving(program(), folder) as server:
        assert server.ask(fine)["allow"] is True
        assert server.ask(broken) is None
        assert server.ask_all([broken, fine])[1]["allow"] is True


def test_undefined_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path, 'package inference\n\ndecision := "x" if input.request.stream\n')
    with opa_program.serving(program(), folder) as server:
        assert server.ask_all([chat(), chat(request={"stream": True})]) == [None, "x"]


def test_server_ends_with_its_block(tmp_path: Path) -> None:
    with opa_program.serving(program(), write(tmp_path, ORDINARY)) as server:
        assert server.is_ready()
    assert not server.is_ready()


def test_what_does_not_load_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"opa run: .*nothing"),
        opa_program.serving(program(), write(tmp_path, "package inference\n\ndecision := nothing\n")),
    ):
        pytest.fail("it runs")


def test_eval_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"opa eval: .*nothing"):
        opa_program.evaluate(program(), write(tmp_path, "package a\n\nb := nothing\n"), {}, "data.a.b")


def test_no_opa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no OPA to run; name it with --opa"):
        opa_program.find_opa(tmp_path / "opa")
    (tmp_path / "opa").touch(0o600)
    with pytest.raises(ConfigError, match="no OPA"):
        opa_program.find_opa(tmp_path / "opa")
    assert opa_program.find_opa(None) == program()


def test_program_that_is_none(tmp_path: Path) -> None:
    other = tmp_path / "opa"
    other.write_bytes(b"no program")
    other.chmod(0o700)
    with pytest.raises(ConfigError, match="opa eval: OSError"):
        opa_program.evaluate(other, tmp_path, {}, "data")
    with pytest.raises(ConfigError, match="Exec format error"), opa_program.serving(other, tmp_path):
        pytest.fail("it runs")


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        opa_program.sources(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"no \.rego file"):
        opa_program.sources(tmp_path)
