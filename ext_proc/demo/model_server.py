"""Serve a model with llama.cpp's own server (xllamacpp). Run with that package's Python, not ours:

``python model_server.py WEIGHTS PORT API_KEY_FILE``. Its OpenAI and Anthropic endpoints are llama.cpp's.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Load the model and serve until stopped."""
    weights, port, key_file = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = ["demo"]
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.api_keys = [Path(key_file).read_text().strip()]
    params.n_ctx = 4096
    params.n_parallel = 2
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.n_predict = 256
    # One thread that sleeps when idle: two on two busy cores are slower (measured).
    params.cpuparams.n_threads = 1
    params.cpuparams.poll = 0
    params.cpuparams_batch.n_threads = 1
    params.cpuparams_batch.poll = 0
    params.warmup = True
    server = xllamacpp.Server(params)
    print("serving", server, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
