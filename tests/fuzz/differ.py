"""Look for texts that a stream masks in another way than the whole: ``python -m tests.fuzz.differ --seconds 900``.

Texts of 200 to 20,000 characters, of examples of all packs and parts of them, near-misses, disguises, placeholders and
prose; in random parts, with a random pack. And, with small limits, whether what is withheld depends on the cuts. What
differs is made short and printed: it belongs into `tests/unit/redaction/test_stream.py` with the fix.
"""

from __future__ import annotations

import argparse
import random
from time import process_time
from typing import TYPE_CHECKING

from ext_proc.redaction.detect import BUILT_IN, Detector
from ext_proc.redaction.look import HELD_TOO_LONG
from ext_proc.redaction.rules import ENTITIES, PACKS
from tests.unit.redaction.samples import TRAPS
from tests.unit.redaction.streams import EVASIONS, EXAMPLES, in_chunks, stream, streamed, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ext_proc.redaction import StreamRedactor

DETECTORS = {"built in": BUILT_IN, **{pack.name: Detector(pack.rules) for pack in PACKS}}
WORDS = (
    "the call me at account key is my number and then card born see street PHONE EMAIL ssn password token 12 2024 7,"
)
RUNS = (
    "a" * 40,
    "QUJD" * 12,
    "eyJ" + "a" * 30,
    ".",
    "sk-abcdefgh12345678" * 3,
    "1 2 3 4 ",
    "%40",
    "A1" * 30,
    "\n",
    " ",
)
SIZES = (1, 4, 7, 50)


def piece(rng: random.Random) -> str:
    match rng.choices(range(6), (30, 5, 10, 10, 30, 15))[0]:
        case 0:
            text = rng.choice(EXAMPLES)
            low = rng.randrange(len(text) + 1)
            return text[low : rng.randrange(low, len(text) + 1)] if rng.random() < 0.4 else text
        case 1:
            return rng.choice(EVASIONS)
        case 2:
            return rng.choice(TRAPS)
        case 3:
            entity = rng.choice(ENTITIES)
            said = rng.choice((f"[{entity}]", f"[{entity}:abcdefgh]", f"<{entity}_QWRTZB>"))
            return f"{said}{rng.choice(('', ':', ' ', '. '))}"
        case 4:
            return " ".join(rng.choices(WORDS.split(), k=rng.randrange(1, 12))) + rng.choice((" ", ". ", "\n", ", "))
        case _:
            return "".join(rng.choices("0123456789 .-+/()", k=rng.randrange(1, 20)))


def text_of(rng: random.Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += piece(rng)
    return text


def parts(rng: random.Random, text: str) -> Iterable[str]:
    sizes = rng.choice(((1,), (4,), (1, 2, 3, 4, 5, 6), (1, 7, 30), (300, 1, 900), (len(text) or 1,)))
    at = 0
    while at < len(text):
        size = rng.choice(sizes)
        yield text[at : at + size]
        at += size


def is_other(chunks: Iterable[str], text: str, detector: Detector) -> bool:
    """Is it not the whole text's? What is withheld for its length is not compared."""
    redactor = stream(detector=detector)
    said = streamed(chunks, redactor)
    return said != whole(text, detector=detector) and not is_withheld(redactor)


def is_withheld(redactor: StreamRedactor) -> bool:
    """Was something? A later look may have taken it out once more, then `removals` does not tell."""
    return any(one.out.span is not None and one.out.span.rule == HELD_TOO_LONG for one in redactor._removed)


def depends_on_cuts(text: str, limit: int) -> bool:
    once = stream(limit=limit)
    said = streamed([text], once)
    for size in SIZES:
        redactor = stream(limit=limit)
        if streamed(in_chunks(text, size), redactor) != said or redactor.removals != once.removals:
            return True
    return False


def shortened(text: str, is_bad: Callable[[str], bool]) -> str:
    size = len(text) // 2
    while size:
        at = 0
        while at < len(text):
            less = text[:at] + text[at + size :]
            if is_bad(less):
                text = less
            else:
                at += size
        size //= 2
    return text


def one(rng: random.Random, longest: int) -> str:
    """What one random text shows; nothing where all is well."""
    if rng.random() < 0.4:
        limit = rng.randrange(20, 200)
        runs = "".join(rng.choices(RUNS, k=rng.randrange(1, 15)))
        text = runs if rng.random() < 0.7 else text_of(rng, rng.randrange(1, 600))
        if depends_on_cuts(text, limit):
            return f"limit {limit}: {shortened(text, lambda less: depends_on_cuts(less, limit))!r}"
        return ""
    name = rng.choice(tuple(DETECTORS))
    detector = DETECTORS[name]
    text = text_of(rng, int(200 * (longest / 200) ** rng.random()))
    chunks = list(parts(rng, text))
    if not is_other(chunks, text, detector):
        return ""

    def is_bad(less: str) -> bool:
        return any(is_other(in_chunks(less, size), less, detector) for size in (*SIZES, len(less) or 1))

    return f"{name}: {shortened(text, is_bad)!r}" if is_bad(text) else f"{name}: {chunks!r}"


def main() -> int:
    asked = argparse.ArgumentParser(description="Look for texts that a stream masks in another way than the whole.")
    asked.add_argument("--seconds", type=float, default=900, help="of CPU time (900)")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--longest", type=int, default=20_000, help="characters of a text (20000)")
    options = asked.parse_args()
    rng = random.Random(options.seed)
    end = process_time() + options.seconds
    count = found = 0
    while process_time() < end:
        count += 1
        said = one(rng, options.longest)
        if said:
            found += 1
            print(said, flush=True)
    print(f"{count} texts, {found} that differ")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
