"""What can go wrong, as families: a class exists only where some caller branches on it.

Every error carries a stable ``code`` (metric label, log field and record field alike), an HTTP status, and a
``client_text`` that is safe to show to the caller. No message ever holds a body, a token or a claim.
A denial by policy is a value (`ext_proc.model.Decision`), not an exception.
"""

from __future__ import annotations

from typing import ClassVar, Final


class GateError(Exception):
    """Abstract: something kept the gate from letting the exchange go on.

    ``detail`` is for our own log only. It is built from our own words and numbers, never from caller content.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    client_text: ClassVar[str] = "The gateway failed. Nothing was passed on."
    is_retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail


class RequestError(GateError):
    """The caller's doing (4xx)."""

    code = "bad_request"
    http_status = 400
    client_text = "The request is not valid."


class BadToken(RequestError):
    """No credential, or one that does not verify (RFC 6750 section 3.1)."""

    code = "invalid_token"
    http_status = 401
    client_text = "The access token is missing, expired or not valid for this gateway."


class BadBody(RequestError):
    """A body that cannot be read as what its content type or operation says."""

    code = "unreadable_body"
    http_status = 400
    client_text = "The request body cannot be read as JSON of this operation."


class BadHeaders(RequestError):
    """A header that must be single or plain is not (duplicate, joined, control characters)."""

    code = "bad_headers"
    http_status = 400
    client_text = "A request header is repeated or malformed."


class BadBreakGlass(RequestError):
    """The header that says that a call cannot wait for people does not say why."""

    code = "bad_break_glass"
    http_status = 400
    client_text = "The header x-affidavit-break-glass must say why, once, in 8 to 500 printable ASCII characters."


class BodyTooLarge(RequestError):
    """Over the connection's configured limit (RFC 9110 section 15.5.14)."""

    code = "request_too_large"
    http_status = 413
    client_text = "The request body is larger than this connection accepts."


class TooLargeToApprove(RequestError):
    """It needs an approval, and is longer than anybody can read who would have to give one."""

    code = "too_large_to_approve"
    http_status = 413
    client_text = "This call needs a person's approval, and is too long for a person to read. Send less."


class UnsupportedContent(RequestError):
    """A content type or encoding that the gate cannot inspect (law L5: unknown is deny)."""

    code = "unsupported_content"
    http_status = 415
    client_text = "This content type, encoding or query cannot be inspected, so it is not passed on."


class UnknownOperation(RequestError):
    """Method and path name no operation of the connection (law L5)."""

    code = "unknown_operation"
    http_status = 404
    client_text = (
        "This connection has no such operation. OpenAI clients: the base URL ends in /v1; Anthropic's does not."
    )


class UpgradeRefused(RequestError):
    """A protocol upgrade on a connection that does not allow uninspected traffic."""

    code = "upgrade_refused"
    http_status = 403
    client_text = "Protocol upgrades are not allowed on this connection."


class DependencyError(GateError):
    """Something that the gate stands on did not answer: refuse, record, ask to retry (503)."""

    code = "dependency_unavailable"
    http_status = 503
    client_text = "The gateway cannot check this call at the moment, so it was not passed on. Try again."
    is_retryable = True


class KeysUnavailable(DependencyError):
    """The issuer's signing keys cannot be fetched and no fresh enough copy is held."""

    code = "keys_unavailable"


class PolicyUnavailable(DependencyError):
    """OPA did not answer in time, or answered with an error."""

    code = "policy_unavailable"


class PolicyUndefined(DependencyError):
    """OPA answered, but not with a decision: undefined, or not exactly of the published shape."""

    code = "policy_undefined"


class AuditUnavailable(DependencyError):
    """The evidence cannot be made durable: disk full, disk failing, or the writer stopped."""

    code = "audit_unavailable"


class ApprovalUnavailable(DependencyError):
    """The register of holds cannot be used: nobody can be asked, and nobody's answer be heard."""

    code = "approval_unavailable"


class TooManyHolds(DependencyError):
    """As many calls wait for people as may wait; ``detail``: of this caller, or of all."""

    code = "too_many_holds"
    client_text = "Too many calls are waiting for approval. Try again when some of them are resolved."


class CredentialUnavailable(DependencyError):
    """The connection's upstream credential file cannot be read."""

    code = "credential_unavailable"


class RecogniserUnavailable(DependencyError):
    """The recogniser of names is not there, too slow, too busy, or says what cannot be: nothing was looked for.

    ``detail`` is one of `RECOGNISER_FAILURES`, and stands in the record.
    """

    code = "recogniser_unavailable"
    client_text = "The gateway cannot look for names in this at the moment, so it was not passed on. Try again."


RECOGNISER_FAILURES: Final = ("absent", "dead", "late", "busy", "garbage", "error")
"""There is none; its processes are not up; no answer by the deadline; too many asked; an answer that cannot be; it said
that it failed."""


class UpstreamError(GateError):
    """The upstream's answer cannot be released (unreadable, uninspectable or too large): 502."""

    code = "upstream_unreadable"
    http_status = 502
    client_text = "The model's answer could not be inspected, so it was not released."


class PeerError(GateError):
    """Envoy spoke out of turn: the stream is closed with an error."""

    code = "peer_out_of_turn"
    http_status = 500


class ConfigError(GateError):
    """The configuration is not valid: refuse to start, naming the field."""

    code = "bad_configuration"


class IntegrityError(GateError):
    """The log disagrees with itself. Fatal: stop the writer, fail readiness, refuse everything."""

    code = "integrity"
    http_status = 503
