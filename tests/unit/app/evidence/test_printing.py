from __future__ import annotations

import io

import pytest
from rich.console import Console

from ext_proc.app.evidence.printing import print_finding


@pytest.mark.parametrize("place", ["v1/events/[/x]", "v1/[bold]a[/bold]", "v1/[link=file:///etc]a", "v1/:smile:"])
def test_names_are_printed_as_they_are(place: str) -> None:
    """Whoever can write to the bucket chooses them: one that is markup would hide every finding behind a traceback."""
    out = io.StringIO()
    print_finding(Console(file=out, width=80), "unexpected_object", place, "[/] it is there")
    assert out.getvalue() == f"unexpected_object  {place}\n    [/] it is there\n"
