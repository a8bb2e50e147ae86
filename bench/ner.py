"""What looking for names costs: a sentence of a stream and a body of 1 KB, with a recogniser and without.

``python -m bench.ner`` starts one process of the adapter (``--adapter presidio``; ``pip install 'affidavit[ner]'``),
prints a table and writes ``bench/out/ner.json``. ``gate`` is CPU time of the gate's own process, ``recogniser`` that of
its process, ``wait`` what passes on the clock until the sentence may go on: it depends on what else the machine does.
Held back are characters of a stream after each piece of four.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from bench.stream import prose
from ext_proc.app.exchange.content import ContentGate
from ext_proc.app.exchange.names import Names
from ext_proc.errors import ConfigError
from ext_proc.model import Connection, Operation, Recognition
from ext_proc.ner import Pool, Recipe
from ext_proc.redaction import Redactor, StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.protocols.streaming import Masker

OUT: Final = Path(__file__).parent / "out" / "ner.json"
SENTENCES: Final = 100
BODIES: Final = 40
TOKEN: Final = 4
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KEY: Final = b"k" * 32
_NAMED: Final = ("Then Ada Lovelace wrote from London. ", "I asked Peter Miller about it. ", "She moved to Chicago. ")
_PATH: Final = "/v1/chat/completions"


def text_of(sentences: int, rng: random.Random) -> list[str]:
    """Sentences; there is a name in every third."""
    return [rng.choice(_NAMED) if number % 3 == 0 else prose(1, rng) for number in range(sentences)]


def cpu_of(pids: list[int]) -> float:
    """Seconds that processes have spent (``/proc``)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


def streamed(make: Callable[[], Masker], sentences: list[str], pids: list[int]) -> dict[str, float]:
    """Milliseconds a sentence of one stream, and what it held back."""
    masker = make()
    held, waits, came, gone = [], [], 0, 0
    theirs, ours = cpu_of(pids), process_time()
    for sentence in sentences:
        begin = perf_counter()
        for at in range(0, len(sentence), TOKEN):
            piece = sentence[at : at + TOKEN]
            came += len(piece)
            gone += len(masker.feed(piece))
            held.append(came - gone)
        waits.append(perf_counter() - begin)
    masker.finish()
    each = 1000 / len(sentences)
    return {
        "gate_ms": (process_time() - ours) * each,
        "recogniser_ms": (cpu_of(pids) - theirs) * each,
        "wait_ms": median(waits) * 1000,
        "held_median": median(held),
    }


def whole(content: ContentGate, connection: Connection, text: str, pids: list[int]) -> dict[str, float]:
    """Milliseconds a body."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}).encode()
    headers = (("content-type", b"application/json"),)
    theirs, ours, waits = cpu_of(pids), process_time(), []
    for _ in range(BODIES):
        begin = perf_counter()
        content.redact_request(content.inspect(connection, "POST", _PATH, headers, body), ())
        waits.append(perf_counter() - begin)
    each = 1000 / BODIES
    return {
        "gate_ms": (process_time() - ours) * each,
        "recogniser_ms": (cpu_of(pids) - theirs) * each,
        "wait_ms": median(waits) * 1000,
    }


def measured(pool: Pool, seed: int) -> dict[str, Any]:
    """All of it."""
    sentences = text_of(SENTENCES, random.Random(seed))
    redactor, names = Redactor(_KEY), Names(pool, Redactor(_KEY))

    def masker(mode: str) -> Callable[[], Masker]:
        make = names.of_stream(Recognition(mode), ()).of_pieces(
            lambda path, context: StreamRedactor(path=path, context=context)
        )
        return lambda: make("/a", "")

    found: dict[str, Any] = {"recogniser": pool.version, "characters": sum(map(len, sentences)) / len(sentences)}
    for mode in ("off", "sentence", "window"):
        streamed(masker(mode), sentences[:10], pool.pids())
        found[f"stream, {mode}"] = streamed(masker(mode), sentences, pool.pids())
    content = ContentGate(_KEY, redactor.detector, pool)
    plain = Connection("demo", (Operation("POST", _PATH, "openai.chat"),), None, 1 << 20, 1 << 20)
    named = Connection("demo", plain.operations, None, 1 << 20, 1 << 20, recognition=Recognition())
    text = "".join(sentences)[:1024]
    for name, connection in (("1 KB whole, off", plain), ("1 KB whole, on", named)):
        whole(content, connection, text, pool.pids())
        found[name] = whole(content, connection, text, pool.pids())
    return found


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.ner", description=__doc__)
    parser.add_argument("--adapter", default="spacy")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    pool = Pool(Recipe(options.adapter), deadline_seconds=30)
    try:
        pool.start()
    except ConfigError as error:
        print(error.detail, file=sys.stderr)
        return 2
    try:
        found = measured(pool, options.seed)
    finally:
        pool.close()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    table = Table("", "gate ms", "recogniser ms", "wait ms", "held back", title=found["recogniser"])
    for name, one in found.items():
        if isinstance(one, dict):
            held = f"{one['held_median']:.0f}" if "held_median" in one else ""
            table.add_row(name, f"{one['gate_ms']:.3f}", f"{one['recogniser_ms']:.1f}", f"{one['wait_ms']:.2f}", held)
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
