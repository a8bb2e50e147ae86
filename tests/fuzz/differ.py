"""Look for texts that a stream masks in another way than the whole: ``python -m tests.fuzz.differ --seconds 900``.

Texts of 200 to 20,000 characters, of examples of all packs and parts of them, near-misses, disguises, placeholders and
prose, and of values that go on for thousands of characters with others in them; in random parts, with a random pack.
And, with small limits, whether what is withheld depends on the cuts. What differs is made short and printed: it belongs
into `tests/unit/redaction/test_stream.py` with the fix.
"""

from __future__ import annotations

import argparse
import random
from time import process_time
from typing import TYPE_CHECKING

from ext_proc.redaction.detect import BUILT_IN, Detector
from ext_proc.redaction.look import HELD_TOO_LONG
from ext_proc.redaction.rules import ENTITIES, PACKS, YIELDING
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
OPENERS = (
    "-----BEGIN PRIVATE KEY-----",
    "eyJhbGciOiJub25lIn0.eyJ",
    "sk-abcdefgh12345678",
    "Set-Cookie: id=abcdefgh",
    "password: abcdefgh1234",
    "Authorization: Bearer abcdefgh12345678",
    "AQEabcdefgh12345678abcdefgh12345678abcdefgh12345678abcd",
    "\x1f: a",
)
FILLERS = ("abc ", "aB3", "a&amp;b ", "x-", "QUJD", "b.", "1 2 ", "QUJDQUJDQUJDQUJD" * 4 + "\n", "a%41", "é")
ENDS = (
    "",
    " ",
    "-",
    ".",
    "\n",
    "%2d",
    "+",
    "/",
    '"',
    "-----END PRIVATE KEY-----",
    "(020)946095",
    "@a.org",
    ":9.8.7.6 ",
)
GOES_ON_MAX = 6000
LONG_SHARE = 0.2
CUTS_MAX = 200


def going_on(rng: random.Random) -> str:
    """Values without an end of their own, one in the other."""
    text = ""
    for _ in range(rng.randrange(1, 5)):
        filler = rng.choice(FILLERS)
        text += rng.choice(OPENERS) + filler * rng.randrange(1 + rng.choice((40, 400, GOES_ON_MAX)) // len(filler))
        text += rng.choice(ENDS)
    return text


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
    """Is it not the whole text's? Of what is withheld for its length only this is asked: does any value go on?"""
    redactor = stream(detector=detector)
    said = streamed(chunks, redactor)
    if is_withheld(redactor):
        return shows_more(redactor, text, detector)
    return said != whole(text, detector=detector)


def shows_more(redactor: StreamRedactor, text: str, detector: Detector) -> bool:
    """Does any character go on of what is a value in the whole text?"""
    gone = {at for one in redactor.removals for at in range(one.start, one.end)}
    spans = (span for span in detector.scan(text) if span.entity not in YIELDING)
    return any(not gone.issuperset(range(one.start, one.end)) for one in spans)


def is_withheld(redactor: StreamRedactor) -> bool:
    """Was something? Ask before `removals` is: a later look may have taken it out once more, then that does not tell."""
    return any(one.out.span is not None and one.out.span.rule == HELD_TOO_LONG for one in redactor._taken.open)


def depends_on_cuts(text: str, limit: int) -> bool:
    once = stream(limit=limit)
    said = streamed([text], once)
    for size in SIZES:
        redactor = stream(limit=limit)
        if streamed(in_chunks(text, size), redactor) != said or redactor.removals != once.removals:
            return True
    return False


def shortened(text: str, is_bad: Callable[[str], bool]) -> str:
    """Less of a text that is bad: its ends first, each half of what is left; then what stands between."""
    before = ""
    while text != before:
        before = text
        for size in _halves(text):
            while len(text) > size and is_bad(text[:-size]):
                text = text[:-size]
            while len(text) > size and is_bad(text[size:]):
                text = text[size:]
    smallest = len(text) // CUTS_MAX  # where the length itself matters, nothing can go: do not ask a thousand times
    for size in _halves(text):
        if size < smallest:
            break
        at = 0
        while at < len(text):
            less = text[:at] + text[at + size :]
            if is_bad(less):
                text = less
            else:
                at += size
    return text


def _halves(text: str) -> Iterable[int]:
    size = len(text) // 2
    while size:
        yield size
        size //= 2


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
    is_long = rng.random() < LONG_SHARE
    text = going_on(rng) + text_of(rng, 400) if is_long else text_of(rng, int(200 * (longest / 200) ** rng.random()))
    chunks = list(parts(rng, text))
    if not is_other(chunks, text, detector):
        return ""

    for size in (len(text), *reversed(SIZES)):  # the first way to cut it that shows it: one, and the fastest
        if is_other(in_chunks(text, size), text, detector):
            short = shortened(text, lambda less, size=size: is_other(in_chunks(less, size), less, detector))  # type: ignore[misc]
            return f"{name}, in parts of {size}: {short!r}"
    return f"{name}: {chunks!r}"


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
