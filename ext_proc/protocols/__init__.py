"""What a body means: where its text is, which model was asked and answered, what was used, how an error looks. Pure.

Laws here: every string is a channel, keys and long numbers too, whatever the protocol says about them (L6); what is
forwarded is written again from what was read; what cannot be read is refused (L5).
"""

from ext_proc.protocols.document import Channel, Document
from ext_proc.protocols.fielded import Fields
from ext_proc.protocols.reading import operation_of, read_request, read_response, read_tree, undone, with_fields
from ext_proc.protocols.refusals import refusal_body

__all__ = [
    "Channel",
    "Document",
    "Fields",
    "operation_of",
    "read_request",
    "read_response",
    "read_tree",
    "refusal_body",
    "undone",
    "with_fields",
]
