"""What commands offer as defaults and choices: apart, so that a command line is read without loading all of this."""

from __future__ import annotations

from typing import Final

DECISION: Final = "inference/decision"
"""The rule that the gate asks for."""
SEED: Final = 7
QUESTIONS: Final = 300
MUST_BE_KNOWN: Final = ("identity.groups", "request.operation", "request.model")
ENTITIES: Final = "findings"
OPEN: Final = (*MUST_BE_KNOWN, ENTITIES)
"""Fields of which a policy may mean to let pass what it does not know."""
