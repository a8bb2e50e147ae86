"""How much of what is planted in texts is masked whole, and how much is masked that is nothing.

``python -m bench.recall`` uses texts of our own (`bench.texts`); ``--data FILE`` a JSON list of
``{"text": ..., "spans": [{"start", "end", "type"}]}``, as ``python -m bench.presidio --generate`` writes with the
generator of presidio-research. Writes ``bench/out/recall.json``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, Final

from bench.texts import Gold, Text, made, prose
from ext_proc.redaction import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

OUT: Final = Path(__file__).parent / "out" / "recall.json"
STRUCTURED: Final = frozenset(
    {"CREDIT_CARD", "PHONE_NUMBER", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "DOMAIN_NAME", "US_SSN", "US_DRIVER_LICENSE"}  # noqa: E501
)  # fmt: skip
"""Of presidio-research's kinds: those that have a shape."""
RECALL_MIN, PRECISION_MIN, ALARMS_MAX = 0.96, 0.98, 1.0

Spans = list[tuple[int, int]]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--count", type=int, default=2000, help="texts (default: 2000)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="instead of our own texts")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="show so many of what was missed")
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is not kept")
    options = parser.parse_args()
    texts = read(options.data) if options.data else made(options.seed, options.count)
    told = measured(texts, ours, options.misses)
    told["false_alarms_per_100k_characters"] = alarms(options.seed)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    for kind, one in told["kinds"].items():
        print(f"{kind:18} {one['found']:5} of {one['planted']:5}  {one['recall']:.3f}")
    print(
        f"all: recall {told['recall']:.4f}, precision {told['precision']:.4f}, {told['kchar_per_second']:.0f} kchar/s"
    )
    print(f"false alarms in 100,000 characters of plain text: {told['false_alarms_per_100k_characters']:.2f}")
    kept = told["recall"] >= RECALL_MIN and told["precision"] >= PRECISION_MIN
    return int(options.check and not (kept and told["false_alarms_per_100k_characters"] <= ALARMS_MAX))


def ours(text: str) -> Spans:
    """What the built-in rules find."""
    return [(span.start, span.end) for span in scan(text)]


def read(path: Path) -> list[Text]:
    """Texts in the form of presidio-research: kinds without a shape count for precision only."""
    return [
        Text(one["text"], tuple(Gold(span["start"], span["end"], span["type"]) for span in one["spans"]))
        for one in json.loads(path.read_text(encoding="utf-8"))
    ]


def measured(texts: Sequence[Text], find: Callable[[str], Spans], misses: int = 0) -> dict[str, Any]:
    """Recall by kind (masked whole), precision (a find that touches no planted value is wrong), speed."""
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    hits = wrong = 0
    begin = process_time()
    several = [find(one.text) for one in texts]
    spent = process_time() - begin
    has_names = any(
        gold.kind not in STRUCTURED for one in texts for gold in one.golds if gold.kind in ("PERSON", "GPE")
    )
    for one, spans in zip(texts, several, strict=True):
        masked = {index for start, end in spans for index in range(start, end)}
        for gold in one.golds:
            if has_names and gold.kind not in STRUCTURED:
                continue
            planted[gold.kind] += 1
            is_whole = all(i in masked for i in range(gold.start, gold.end) if one.text[i].isalnum())
            found[gold.kind] += is_whole
            if not is_whole and misses > 0:
                misses -= 1
                print(f"missed {gold.kind}: {one.text[max(gold.start - 30, 0) : gold.end + 10]!r}")
        hits += len(spans)
        wrong += sum(not _touches(span, one.golds) for span in spans)
    kinds = {k: {"planted": n, "found": found[k], "recall": found[k] / n} for k, n in sorted(planted.items())}
    return {
        "texts": len(texts),
        "recall": found.total() / max(planted.total(), 1),
        "precision": 1 - wrong / max(hits, 1),
        "kchar_per_second": sum(len(one.text) for one in texts) / max(spent, 1e-9) / 1000,
        "kinds": kinds,
    }


def _touches(span: tuple[int, int], golds: Iterable[Gold]) -> bool:
    return any(gold.start < span[1] and span[0] < gold.end for gold in golds)


def alarms(seed: int, size: int = 400_000) -> float:
    """Finds in 100,000 characters of text without any value."""
    return len(scan(prose(seed, size))) / size * 100_000


if __name__ == "__main__":
    raise SystemExit(main())
