"""What is in the bucket: the kinds of records of each exchange, as JSON. Run inside the node.

``python -m tests.cluster.evidence ENDPOINT CREDENTIALS_FILE``
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from ext_proc.audit.reader import leaves
from ext_proc.audit.s3 import S3Store
from ext_proc.demo.seaweed import BUCKET

found: dict[str, list[str]] = defaultdict(list)
for _, leaf in leaves(S3Store(BUCKET, "", "us-east-1", sys.argv[1], Path(sys.argv[2]))):
    if exchange := leaf.get("exchange_id"):
        found[exchange].append(leaf["kind"])
json.dump(found, sys.stdout)
