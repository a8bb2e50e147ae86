"""How the auditor's commands print what they found: names out of the bucket as they are, whatever is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


def print_finding(console: Console, code: str, place: str, explanation: str) -> None:
    """One finding. Whoever can write to the bucket chooses ``place``: it is no markup."""
    console.print(Text.assemble((code, "bold red"), f"  {place}"), highlight=False, soft_wrap=True)
    console.print(Text(f"    {explanation}"), highlight=False)
