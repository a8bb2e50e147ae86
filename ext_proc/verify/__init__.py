"""The verifier: for an auditor who trusts nobody. Reads a bucket, an export or a proof, and says what does not hold.

It shares the record format (``docs/record-format.md``) with the writer, and no code: it imports nothing of this package
but the families of errors. Start reading at `ext_proc.verify.verifier`.
"""

from ext_proc.verify.findings import MEANING, Finding, Progress, Report, VerifyError
from ext_proc.verify.verifier import verify

__all__ = ["MEANING", "Finding", "Progress", "Report", "VerifyError", "verify"]
