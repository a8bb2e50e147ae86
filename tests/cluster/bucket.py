"""Makes the bucket of the cluster's store: run inside the node, with what is needed on standard input."""

from __future__ import annotations

import json
import sys
import time

from ext_proc.demo import seaweed

SECONDS = 120

endpoint, access, secret, admin_access, admin_secret, days = json.load(sys.stdin)
server = seaweed.Seaweed(None, endpoint, seaweed.BUCKET, "us-east-1", access, secret, admin_access, admin_secret)  # type: ignore[arg-type]
deadline = time.monotonic() + SECONDS
while not seaweed._has_bucket(server, days):
    if time.monotonic() > deadline:
        raise SystemExit(f"no bucket at {endpoint} after {SECONDS} s")
    time.sleep(0.5)
