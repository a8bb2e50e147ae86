"""What the protocols' streams ask of a masker: the real one and the fake keep it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import StreamRedactor
from tests.fakes.masker import FORBIDDEN, FakeMasker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.protocols.streaming import Masker

TEXT = "write to bob@example.org or pay with 4111111111111111 soon"


def real(path: str, context: str) -> Masker:
    return StreamRedactor((), path=path, context=context)


def real_blocking(path: str, context: str) -> Masker:
    return StreamRedactor((RedactionRule("EMAIL", Action.BLOCK),), path=path, context=context)


MAKERS = [pytest.param(FakeMasker, id="fake"), pytest.param(real, id="real")]
BLOCKING = [pytest.param(FakeMasker, FORBIDDEN, id="fake"), pytest.param(real_blocking, "bob@example.org", id="real")]


def through(masker: Any, text: str, size: int) -> str:
    return "".join(masker.feed(text[at : at + size]) for at in range(0, len(text), size)) + masker.finish()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_cuts_do_not_matter(make: Callable[[str, str], Masker], size: int) -> None:
    out = through(make("/p", ""), TEXT, size)
    assert out == through(make("/p", ""), TEXT, 1000)
    assert "bob" not in out
    assert "4111" not in out
    assert out.startswith("write to [")
    assert out.endswith(" soon")


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_in_nothing_out(make: Callable[[str, str], Masker]) -> None:
    masker = make("/p", "")
    assert (masker.feed(""), masker.finish(), list(masker.removals), list(masker.blocked)) == ("", "", [], [])


@pytest.mark.parametrize("make", MAKERS)
def test_removals_say_where(make: Callable[[str, str], Masker]) -> None:
    masker = make("/p", "")
    through(masker, TEXT, 3)
    assert [(one.channel, TEXT[one.start : one.end]) for one in masker.removals] == [
        ("/p", "bob@example.org"),
        ("/p", "4111111111111111"),
    ]


@pytest.mark.parametrize(("make", "value"), BLOCKING)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_nothing_comes_out_once_blocked(make: Callable[[str, str], Masker], value: str, size: int) -> None:
    masker = make("/p", "")
    out = through(masker, f"well then {value} and more", size)
    assert list(masker.blocked)
    assert "then ".startswith(out.removeprefix("well ")) or out == "well then "
    assert "more" not in out
    assert value[:4] not in out


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_flushed_is_withheld_and_the_text_goes_on(make: Callable[[str, str], Masker]) -> None:
    masker = make("/p", "")
    out = masker.feed("write to bob@exam")
    flushed = masker.flush_masked()
    assert "bob" not in out + flushed
    assert flushed.endswith("[WITHHELD]")
    assert masker.flush_masked() == ""
    following = masker.feed("ple.org and so it goes") + masker.finish()
    assert following.endswith(" so it goes")  # what belongs to what was withheld may be swallowed
