"""``make chart-checks``: checkov on what the chart renders, for each of its ``ci/`` values.

What is passed over, and why, stands in `PASSED_OVER`; anything else that is found fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chart.rendering import CI, ROOT, ci_values, text_of

CHECKOV = ROOT / ".tools" / "checkov" / "bin" / "checkov"
DIGEST = f"sha256:{'0' * 64}"
PASSED_OVER = {
    "CKV_K8S_15": "imagePullPolicy Always: an image that is pinned by its digest is the same one wherever it comes from",
}

PASSED_OVER_AT = {
    (
        "CKV_K8S_8",
        "Pod.gateway.gw-affidavit-test",
    ): "`helm test` runs it once to its end: nobody waits for it to be live",
    ("CKV_K8S_9", "Pod.gateway.gw-affidavit-test"): "likewise: nobody calls it",
    ("CKV_K8S_22", "StatefulSet.gateway.gw-affidavit", "sidecar.yaml"): "of its values: `server.writableRoot`",
}
"""At one place: check, what it is about, and in which render (left out: in all)."""


def main() -> int:
    """Exit status 0: nothing was found."""
    pinned = [f"--set={part}.image.digest={DIGEST}" for part in ("gate", "envoy", "opa")]
    with tempfile.TemporaryDirectory() as folder:
        for name in CI:
            (Path(folder) / f"{name}.yaml").write_text(text_of(ci_values(name), *pinned))
        found, passed = _looked_at(folder)
    for one in found:
        print(one)
    print(f"checkov: {passed} checks passed, {len(found)} failed, over {len(CI)} renders")
    return 1 if found or not passed else 0


def _looked_at(folder: str) -> tuple[list[str], int]:
    options = ("--framework", "kubernetes", "--output", "json", "--quiet", "--compact", "--skip-download")
    done = subprocess.run(
        [CHECKOV, "-d", folder, *options, "--skip-check", ",".join(PASSED_OVER)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told = json.loads(done.stdout)
        results, summary = told["results"]["failed_checks"], told["summary"]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"checkov did not say what it found:\n{done.stdout[-2000:]}{done.stderr[-2000:]}") from None
    failed = []
    for one in results:
        render, place = Path(one["file_path"]).name, (one["check_id"], one["resource"])
        if place not in PASSED_OVER_AT and (*place, render) not in PASSED_OVER_AT:
            failed.append(f"{render}: {one['check_id']} {one['check_name']}: {one['resource']}")
    return failed, summary["passed"]


if __name__ == "__main__":
    sys.exit(main())
