"""`ext_proc.errors`: stable codes, fitting statuses, and nothing in them that came from a caller."""

from __future__ import annotations

import pytest

from ext_proc import errors
from ext_proc.errors import GateError


def _classes(of: type[GateError] = GateError) -> list[type[GateError]]:
    return [of, *(one for direct in of.__subclasses__() for one in _classes(direct))]


# Metric labels, log fields and record fields alike: who renames one breaks somebody's alert and somebody's audit.
CODES = {
    "GateError": ("internal", 500),
    "RequestError": ("bad_request", 400),
    "BadToken": ("invalid_token", 401),
    "BadBody": ("unreadable_body", 400),
    "BadHeaders": ("bad_headers", 400),
    "BadBreakGlass": ("bad_break_glass", 400),
    "BodyTooLarge": ("request_too_large", 413),
    "UnsupportedContent": ("unsupported_content", 415),
    "UnknownOperation": ("unknown_operation", 404),
    "UpgradeRefused": ("upgrade_refused", 403),
    "DependencyError": ("dependency_unavailable", 503),
    "KeysUnavailable": ("keys_unavailable", 503),
    "PolicyUnavailable": ("policy_unavailable", 503),
    "PolicyUndefined": ("policy_undefined", 503),
    "AuditUnavailable": ("audit_unavailable", 503),
    "CredentialUnavailable": ("credential_unavailable", 503),
    "RecogniserUnavailable": ("recogniser_unavailable", 503),
    "UpstreamError": ("upstream_unreadable", 502),
    "PeerError": ("peer_out_of_turn", 500),
    "ConfigError": ("bad_configuration", 500),
    "IntegrityError": ("integrity", 503),
}


def test_codes_and_statuses_are_as_published() -> None:
    ours = {one.__name__: (one.code, one.http_status) for one in _classes() if one.__module__ == errors.__name__}
    assert {name: ours[name] for name in CODES} == CODES


@pytest.mark.parametrize("name", CODES)
def test_every_error(name: str) -> None:
    one: type[GateError] = getattr(errors, name)
    assert one.__doc__
    assert one.code == one.code.lower()
    assert one.client_text.endswith(".")
    assert one("a detail").detail == "a detail"
    assert str(one()) == one.code  # never empty in a log
    assert one("a detail").client_text == one.client_text  # the detail is ours, the caller is not shown it


def test_no_two_errors_share_a_code() -> None:
    codes = [one.code for one in _classes()]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize(("family", "statuses"), [("RequestError", range(400, 500)), ("DependencyError", (503,))])
def test_families_have_their_statuses(family: str, statuses: range | tuple[int, ...]) -> None:
    assert {one.http_status for one in _classes(getattr(errors, family))} <= set(statuses)


def test_only_what_may_pass_is_retryable() -> None:
    retryable = {one.__name__ for one in _classes() if one.is_retryable}
    assert retryable == {one.__name__ for one in _classes(errors.DependencyError)}
