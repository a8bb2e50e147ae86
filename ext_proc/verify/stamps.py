"""RFC 3161 time stamps over the digests: somebody else's word for when an hour was written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import TimeStampResponse, VerificationError, VerifierBuilder, decode_timestamp_response

from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from ext_proc.verify.inventory import LogObjects
    from ext_proc.verify.run import Run, Small

_STAMP_MAX_BYTES: Final = 256 * 1024


class Stamps:
    """The time stamps of one epoch's digests."""

    def __init__(self, run: Run, objects: LogObjects) -> None:
        self._run = run
        self._stamps = {small.item.key: small for small in run.small(objects.stamp, _STAMP_MAX_BYTES)}
        roots = [load_pem_x509_certificate(text.encode()) for text in run.policy.tsa_certificates]
        builder = VerifierBuilder(roots=roots)
        self._verifier = builder.build() if roots else None

    def check(self, digest: Small, told: dict[str, Any]) -> None:
        """The stamp over one digest."""
        run, key = self._run, digest.item.key
        stamp = self._stamps.pop(f"{key}.tsr", None)
        if stamp is None:
            if self._verifier is not None and run.is_settled(digest.item.version.last_modified):
                run.findings.add("timestamp_missing", key, "The digest carries no time stamp.")
            return
        try:
            response = decode_timestamp_response(stamp.data)
            self._verify(response, digest.data)
            at = response.tst_info.gen_time
            is_late = instant(told["to"]) > at + run.policy.tolerance
        except (ValueError, TypeError, OverflowError, VerificationError) as error:
            run.findings.add("timestamp_invalid", stamp.item.key, f"The time stamp does not hold: {error}.")
            return
        if is_late:
            what = f"It speaks of records up to {told['to']}, and was stamped at {at}, before they were made."
            run.findings.add("clock_backwards", key, what)

    def _verify(self, response: TimeStampResponse, message: bytes) -> None:
        if self._verifier is not None:
            self._verifier.verify_message(response, message)
        elif response.tst_info.message_imprint.message not in _imprints(message):
            raise ValueError("it is of another digest")

    def finish(self) -> None:
        """What is left stamps nothing."""
        for key in self._stamps:
            self._run.findings.add("object_unexpected", key, "There is no digest that this time stamp is of.")


def _imprints(message: bytes) -> tuple[bytes, ...]:
    return tuple(hashlib.new(name, message).digest() for name in ("sha256", "sha384", "sha512"))
