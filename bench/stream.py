"""What redaction of streams costs, and how much it holds back: against the bars of issue 5.

- CPU time a character, fed in chunks of 4 characters (a token's size), after the automaton has seen such text once;
  what the first time costs is told beside it.
- Characters held back after each chunk, in tokens of 4: on prose, and on text full of values of every rule.
- Memory of 1,000 streams that are all in the middle of a text, shared parts included.

``python -m bench.stream`` prints a table, writes ``bench/out/stream.json`` and fails where a bar is missed. CPU time
depends on the machine: ``unit`` is what this one takes for a loop of the interpreter, for comparison.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tracemalloc
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc.redaction import StreamRedactor
from ext_proc.redaction.rules import PACKS

OUT: Final = Path(__file__).parent / "out" / "stream.json"
TOKEN: Final = 4
STREAMS: Final = 1000
MICROSECONDS_MAX: Final = 2.0
HELD_TOKENS_MAX: Final = 2.0
MEGABYTES_MAX: Final = 400.0
PROSE_CHARACTERS: Final = 40_000
ROUNDS: Final = 5

_PARTS: Final = (
    ("The team", "A reader", "My neighbour", "The council", "Nobody", "The old bridge", "Each of us", "Her sister"),
    ("found", "described", "had expected", "will never forget", "could see", "asked for", "wrote about", "kept"),
    ("a quiet street", "the whole story", "another way", "the long road home", "what was left", "a better answer"),
    ("in the morning", "before the summer", "and went on", "because it mattered", "although it was late", "at last"),
)
_ENDLESS: Final = ("pem-private-key", "putty-private-key")
"""Whose examples are beginnings: they would swallow all that follows."""
_ENDS: Final = (". ", ". ", ", and so on. ", "? ", ".\n\n")


def prose(characters: int, rng: random.Random) -> str:
    """Sentences without anything to mask."""
    said: list[str] = []
    length = 0
    while length < characters:
        said.append(" ".join(rng.choice(part) for part in _PARTS) + rng.choice(_ENDS))
        length += len(said[-1])
    return "".join(said)


def dense(rng: random.Random) -> str:
    """An example of every rule, each between two sentences."""
    found = [one for pack in PACKS for one in pack.samples if one.found and not one.key and len(one.text) < 300]
    samples = [one.text for one in found if one.rule not in _ENDLESS]
    rng.shuffle(samples)
    return "\n".join(f"{prose(40, rng).strip()} {text}." for text in samples)


def spent(chunks: list[str]) -> float:
    """CPU seconds of one stream."""
    redactor = StreamRedactor()
    begin = process_time()
    for chunk in chunks:
        redactor.feed(chunk)
    redactor.finish()
    return process_time() - begin


def measured(text: str) -> dict[str, float]:
    """Microseconds a character, the first time and then; tokens held back; values masked."""
    chunks = [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
    first = spent(chunks)
    redactor = StreamRedactor()
    held = []
    for chunk in chunks:
        redactor.feed(chunk)
        held.append(redactor.held)
    held.sort()
    return {
        "microseconds": median(spent(chunks) for _ in range(ROUNDS)) / len(text) * 1e6,
        "microseconds_first": first / len(text) * 1e6,
        "held_median": held[len(held) // 2] / TOKEN,
        "held_p99": held[len(held) * 99 // 100] / TOKEN,
        "removals": len(redactor.removals),
        "characters": len(text),
    }


def memory(texts: list[str]) -> dict[str, float]:
    """Megabytes of the process with all streams open, and kilobytes of one of them."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    streams = [StreamRedactor() for _ in range(STREAMS)]
    for number, redactor in enumerate(streams):
        text = texts[number % len(texts)]
        begin = number * 37 % max(1, len(text) - 400)
        for at in range(begin, begin + 400, TOKEN):
            redactor.feed(text[at : at + TOKEN])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"megabytes": peak, "kilobytes_each": (after - before) / STREAMS / 1024}


def unit() -> float:
    """Nanoseconds of one turn of an empty loop here."""
    begin = process_time()
    for _ in range(2_000_000):
        pass
    return (process_time() - begin) / 2_000_000 * 1e9


def run(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    texts = {"prose": prose(PROSE_CHARACTERS, rng), "dense": dense(rng)}
    found: dict[str, Any] = {name: measured(text) for name, text in texts.items()}
    found["memory"] = memory(list(texts.values()))
    found["unit_nanoseconds"] = unit()
    return found


def missed(found: dict[str, Any]) -> list[str]:
    """The bars that are not met."""
    bars = (
        ("microseconds a character of prose", found["prose"]["microseconds"], MICROSECONDS_MAX),
        ("tokens of prose held back (median)", found["prose"]["held_median"], HELD_TOKENS_MAX),
        ("megabytes with 1,000 streams", found["memory"]["megabytes"], MEGABYTES_MAX),
    )
    return [f"{name}: {value:.2f}, at most {most}" for name, value, most in bars if value > most]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=5, help="of the texts")
    arguments = parser.parse_args()
    found = run(arguments.seed)
    table = Table("text", "characters", "removals", "us/character", "the first time", "held, median", "held, p99")
    for name in ("prose", "dense"):
        one = found[name]
        table.add_row(
            name,
            str(one["characters"]),
            str(one["removals"]),
            f"{one['microseconds']:.2f}",
            f"{one['microseconds_first']:.1f}",
            f"{one['held_median']:.2f} tokens",
            f"{one['held_p99']:.2f} tokens",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{STREAMS} streams: {found['memory']['megabytes']:.0f} MB with everything shared, "
        f"{found['memory']['kilobytes_each']:.1f} KB each. An empty loop's turn: {found['unit_nanoseconds']:.0f} ns."
    )
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for bar in missed(found):
        console.print(f"[red]missed[/red] {bar}")
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
