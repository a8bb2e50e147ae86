"""What may pass: rules as data, found in text, acted on. Pure.

`scan` finds spans in one channel's text; `Redactor.edits` turns spans into edits by the decision's rules;
`StreamRedactor` does both to a text that comes in parts, with the same result for every chunking; `Restorer` puts a
caller's own values back where the model wrote their tokens. Names and postal
addresses are not found: no rule can, and a model that can is a separate detector.
"""

from ext_proc.redaction.detect import BUILT_IN, Detector, merged, scan, scan_all
from ext_proc.redaction.field_values import FieldMasker, FieldValues
from ext_proc.redaction.redact import NONE_MINTED, Edits, Redactor
from ext_proc.redaction.rules import RULES, RULES_VERSION
from ext_proc.redaction.stream import StreamRedactor, warm_up
from ext_proc.redaction.tokens import Restorer, StreamRestorer

__all__ = [
    "BUILT_IN",
    "NONE_MINTED",
    "RULES",
    "RULES_VERSION",
    "Detector",
    "Edits",
    "FieldMasker",
    "FieldValues",
    "Redactor",
    "Restorer",
    "StreamRedactor",
    "StreamRestorer",
    "merged",
    "scan",
    "scan_all",
    "warm_up",
]
