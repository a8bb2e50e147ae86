r"""The tables of `query`, in DuckDB's SQL. ``docs/querying.md`` has the same for other engines.

Nothing of a leaf is lost: ``leaf`` is its exact text, so that ``sha256('\0' || leaf)`` is what the tree holds.
"""

from __future__ import annotations

import json
from typing import Final

LEAVES: Final = """
CREATE TABLE leaves (
    kind VARCHAR, origin VARCHAR, sequence BIGINT, recorded_at TIMESTAMPTZ, exchange_id VARCHAR,
    subject_ref VARCHAR, issuer VARCHAR,
    connection VARCHAR, method VARCHAR, path VARCHAR, protocol VARCHAR, operation VARCHAR, model VARCHAR,
    is_stream BOOLEAN, body_bytes BIGINT, findings JSON,
    allow BOOLEAN, reasons VARCHAR[], bundle_revision VARCHAR, bundle_digest VARCHAR, approval_required BOOLEAN,
    request_masked JSON, response_masked JSON,
    intent_sequence BIGINT, outcome VARCHAR, http_status INTEGER, code VARCHAR, released_bytes BIGINT,
    model_served VARCHAR, input_tokens BIGINT, output_tokens BIGINT, finish_reasons VARCHAR[],
    payloads JSON, leaf VARCHAR, object VARCHAR
)
"""

# Each leaf is parsed once; what is not of the type that the record format gives it is NULL, and still in ``leaf``.
_SHAPE: Final = {
    "kind": "VARCHAR",
    "origin": "VARCHAR",
    "sequence": "BIGINT",
    "at": "VARCHAR",
    "exchange_id": "VARCHAR",
    "intent_sequence": "BIGINT",
    "payloads": "JSON",
    "actor": {"subject_ref": "VARCHAR", "issuer": "VARCHAR"},
    "request": {
        "connection": "VARCHAR",
        "method": "VARCHAR",
        "path": "VARCHAR",
        "protocol": "VARCHAR",
        "operation": "VARCHAR",
        "model": "VARCHAR",
        "is_stream": "BOOLEAN",
        "body_bytes": "BIGINT",
        "findings": "JSON",
    },
    "policy": {
        "allow": "BOOLEAN",
        "reasons": ["VARCHAR"],
        "bundle_revision": "VARCHAR",
        "bundle_digest": "VARCHAR",
        "approval_required": "BOOLEAN",
    },
    "request_redaction": {"removed": "JSON"},
    "response_redaction": {"removed": "JSON"},
    "outcome": {"status": "VARCHAR", "http_status": "INTEGER", "code": "VARCHAR", "released_bytes": "BIGINT"},
    "model": {
        "served": "VARCHAR",
        "input_tokens": "BIGINT",
        "output_tokens": "BIGINT",
        "finish_reasons": ["VARCHAR"],
    },
}

INSERT: Final = f"""
INSERT INTO leaves
SELECT
    t.kind, t.origin, t.sequence, t."at"::TIMESTAMPTZ, t.exchange_id, t.actor.subject_ref, t.actor.issuer,
    t.request.connection, t.request.method, t.request.path, t.request.protocol, t.request.operation, t.request.model,
    t.request.is_stream, t.request.body_bytes, t.request.findings,
    t.policy.allow, t.policy.reasons, t.policy.bundle_revision, t.policy.bundle_digest, t.policy.approval_required,
    t.request_redaction.removed, t.response_redaction.removed,
    t.intent_sequence, t.outcome.status, t.outcome.http_status, t.outcome.code, t.outcome.released_bytes,
    t.model.served, t.model.input_tokens, t.model.output_tokens, t.model.finish_reasons,
    t.payloads, json::VARCHAR, substr(filename, ?)
FROM (
    SELECT json, filename, from_json(json, '{json.dumps(_SHAPE)}') AS t
    FROM read_ndjson_objects(?, filename = true, compression = 'zstd', hive_partitioning = false,
                             maximum_object_size = 131072)
)
WHERE (?::TIMESTAMPTZ IS NULL OR t."at"::TIMESTAMPTZ >= ?::TIMESTAMPTZ)
  AND (?::TIMESTAMPTZ IS NULL OR t."at"::TIMESTAMPTZ <= ?::TIMESTAMPTZ)
"""  # noqa: S608 - nothing of a caller is in it

TOOL_CALLS: Final = """
CREATE VIEW tool_calls AS
WITH brought AS (
    SELECT unnest(leaf->>'$.tool_results[*]') AS call_ref, exchange_id, recorded_at
    FROM leaves WHERE kind = 'inference.intent' AND leaf LIKE '%"tool_results":%'
), results AS (
    SELECT call_ref, arg_min(exchange_id, recorded_at) AS result_exchange_id, min(recorded_at) AS result_at
    FROM brought GROUP BY call_ref
)
SELECT
    exchange_id, recorded_at, origin, sequence,
    (leaf->>'$.tool_call.number')::BIGINT AS number,
    leaf->>'$.tool_call.name' AS name,
    leaf->>'$.tool_call.channel' AS channel,
    leaf->>'$.tool_call.arguments_ref' AS arguments_ref,
    leaf->>'$.tool_call.call_ref' AS call_ref,
    results.result_exchange_id, results.result_at
FROM leaves LEFT JOIN results ON results.call_ref = leaf->>'$.tool_call.call_ref'
WHERE kind = 'effect.tool_call'
"""

EXCHANGES: Final = """
CREATE VIEW exchanges AS
SELECT
    exchange_id,
    min(recorded_at) AS began_at,
    max(recorded_at) FILTER (kind = 'inference.outcome') AS ended_at,
    any_value(origin) AS origin,
    any_value(sequence) FILTER (kind = 'inference.intent') AS intent_sequence,
    any_value(sequence) FILTER (kind = 'inference.outcome') AS outcome_sequence,
    any_value(subject_ref) AS subject_ref,
    any_value(issuer) AS issuer,
    any_value(connection) AS connection,
    any_value(operation) AS operation,
    any_value(model) AS model,
    any_value(model_served) AS model_served,
    any_value(allow) AS allow,
    any_value(reasons) FILTER (len(reasons) > 0) AS reasons,
    any_value(bundle_digest) AS bundle_digest,
    coalesce(any_value(outcome), 'in flight') AS outcome,
    any_value(http_status) AS http_status,
    any_value(code) AS code,
    any_value(released_bytes) AS released_bytes,
    any_value(input_tokens) AS input_tokens,
    any_value(output_tokens) AS output_tokens,
    any_value(findings) AS findings,
    any_value(request_masked) AS request_masked,
    any_value(response_masked) AS response_masked,
    bool_or(kind = 'inference.undelivered') AS is_undelivered
FROM leaves
WHERE kind LIKE 'inference.%' AND exchange_id IS NOT NULL
GROUP BY exchange_id
"""
