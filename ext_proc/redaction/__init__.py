"""What may pass: rules as data, found in text, acted on. Pure.

`scan` finds spans in one channel's text; `Redactor.edits` turns spans into edits by the decision's rules. Names and
postal addresses are not found: no rule can, and a model that can is a separate detector.
"""

from ext_proc.redaction.detect import merged, scan, scan_all
from ext_proc.redaction.redact import Edits, Redactor
from ext_proc.redaction.rules import RULES, RULES_VERSION

__all__ = ["RULES", "RULES_VERSION", "Edits", "Redactor", "merged", "scan", "scan_all"]
