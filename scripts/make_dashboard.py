"""Makes ``helm/affidavit/files/dashboard.json``, which Grafana imports; ``--check`` says whether it is up to date.

A panel is a line below: what it shows, in which unit, and what it asks Prometheus. Tests hold each name of a metric
against those that there are.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).resolve().parent.parent / "helm" / "affidavit" / "files" / "dashboard.json"
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3

Query = tuple[str, str]
"""An expression and what its line is called."""


def _quantiles(metric: str, by: str = "") -> tuple[Query, ...]:
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))",
            f"p{name}{legend}",
        )
        for share, name in ((0.5, "50"), (0.99, "99"))
    )


def _rate(metric: str, by: str) -> Query:
    legend = " ".join(f"{{{{{one.strip()}}}}}" for one in by.split(","))
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))", legend


def _rise(metric: str, by: str = "", window: str = "1h", what: str = "") -> Query:
    legend = " ".join(filter(None, (what, *(f"{{{{{one.strip()}}}}}" for one in by.split(",") if one))))
    return f"sum by ({by}) (increase({metric}[{window}]))" if by else f"sum(increase({metric}[{window}]))", legend


def _ratio(metric: str, of: str, what: str) -> Query:
    return f"sum(rate({metric}[$__rate_interval])) / sum(rate({of}[$__rate_interval]))", what


def _of_each(metric: str, what: str = "") -> Query:
    return metric, f"{what} {{{{instance}}}}".strip()


ROWS: Final[dict[str, tuple[tuple[str, str, tuple[Query, ...]], ...]]] = {
    "Calls": (
        ("Ready", "short", (_of_each("affidavit_ready"), ("affidavit_part_ready == 0", "{{instance}} {{part}}"))),
        ("Calls by how they ended", "reqps", (_rate("affidavit_exchanges_total", "outcome"),)),
        ("Codes of what was refused", "reqps", (_rate('affidavit_exchanges_total{code!=""}', "code"),)),
        ("A whole exchange", "s", _quantiles("affidavit_exchange_seconds", "connection")),
        ("In flight", "short", (("sum by (instance) (affidavit_exchanges_in_flight)", "{{instance}}"),)),
        (
            "Restarts and broken streams",
            "short",
            (
                _rise("affidavit_worker_restarts_total", "role", what="restarts"),
                _rise("affidavit_streams_aborted_total", what="streams aborted"),
            ),
        ),
    ),
    "Who, and may they": (
        ("The gate's own steps", "s", _quantiles("affidavit_step_seconds", "step")),
        ("Callers", "reqps", (_rate("affidavit_authentications_total", "result"),)),
        ("Keys of issuers fetched", "short", (_rise("affidavit_jwks_fetches_total", "issuer, result"),)),
        ("Decisions", "reqps", (_rate("affidavit_decisions_total", "result"),)),
        (
            "Policy in force",
            "short",
            (
                ("count by (revision) (affidavit_policy_info)", "{{revision}}"),
                _rise("affidavit_policy_bundles_refused_total", what="refused"),
            ),
        ),
        ("Shadow policy", "reqps", (_rate("affidavit_policy_shadow_total", "result"),)),
    ),
    "People": (
        ("Waiting for people", "short", (("max(affidavit_approvals_pending)", "holds"),)),
        ("The oldest of them", "s", (("max(affidavit_approvals_oldest_pending_seconds)", "waits"),)),
        (
            "How it ended",
            "short",
            (
                _rise("affidavit_approvals_total", "outcome"),
                _rise("affidavit_break_glass_total", "connection", what="break glass"),
            ),
        ),
        ("Held for", "s", _quantiles("affidavit_hold_seconds", "state")),
        ("Notices", "short", (_rise("affidavit_approval_notices_total", "channel, result"),)),
        ("The console", "s", _quantiles("affidavit_console_request_seconds")),
    ),
    "What passed": (
        ("Removed", "cps", (_rate("affidavit_removals_total", "direction, entity"),)),
        ("Looked at", "Bps", (_rate("affidavit_redaction_scanned_bytes_total", "direction"),)),
        ("Tokens", "cps", (_rate("affidavit_model_tokens_total", "connection, kind"),)),
    ),
    "Evidence": (
        ("Made durable in", "s", _quantiles("affidavit_evidence_commit_seconds")),
        (
            "Records in one commit",
            "short",
            (_ratio("affidavit_evidence_commit_records_total", "affidavit_evidence_commit_seconds_count", "records"),),
        ),
        ("Locked in the store after", "s", _quantiles("affidavit_evidence_ship_seconds")),
        ("Oldest that is not in the store", "s", (_of_each("affidavit_evidence_oldest_unshipped_seconds"),)),
        (
            "On the disk",
            "bytes",
            (
                _of_each("affidavit_evidence_used_bytes", "used"),
                _of_each("affidavit_evidence_capacity_bytes", "may be"),
                _of_each("affidavit_disk_free_bytes", "disk free"),
            ),
        ),
        (
            "Objects and failures",
            "cps",
            (
                ("sum(rate(affidavit_evidence_objects_total[$__rate_interval]))", "locked"),
                _rate("affidavit_evidence_failures_total", "code"),
            ),
        ),
        (
            "Does the store keep what it locks?",
            "short",
            (
                _of_each("affidavit_canary_holes", "holes"),
                _of_each("affidavit_evidence_quarantined_files", "quarantined"),
            ),
        ),
        ("Clock against the store's", "s", (_of_each("affidavit_clock_offset_seconds"),)),
        (
            "Daily work",
            "short",
            (
                _rise("affidavit_daily_runs_total", "command, result", "1d"),
                _of_each("affidavit_canary_age_seconds", "canary's age"),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The whole of it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, shown in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}, "panels": []})
        for number, (name, unit, queries) in enumerate(shown):
            place = {
                "x": number % _COLUMNS * _WIDTH,
                "y": top + 1 + number // _COLUMNS * _HEIGHT,
                "w": _WIDTH,
                "h": _HEIGHT,
            }
            panels.append(_panel(name, unit, queries, place))
        top += 1 + -(-len(shown) // _COLUMNS) * _HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "title": "Affidavit",
        "uid": "affidavit",
        "tags": ["affidavit"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _panel(name: str, unit: str, queries: tuple[Query, ...], place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "expr": expression,
            "legendFormat": legend,
            "exemplar": "_bucket" in expression,
        }
        for number, (expression, legend) in enumerate(queries)
    ]
    return {
        "type": "timeseries",
        "title": name,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": None if "clock" in name.lower() else 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{**one, "datasource": _SOURCE} for one in targets],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="make the dashboard")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is out of date")
    is_check = parser.parse_args().check
    wanted = json.dumps(dashboard(), indent=1) + "\n"
    if TARGET.exists() and TARGET.read_text() == wanted:
        return 0
    if is_check:
        print(f"out of date: {TARGET}; run {Path(__file__).name}", file=sys.stderr)
        return 1
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
