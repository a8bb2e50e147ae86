"""``redaction``: what may pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from ext_proc.config.fields import Like, Section, once


def _off_is_a_word(value: Any) -> Any:
    """YAML takes a bare ``off`` for false. Here it can mean one thing only."""
    return "off" if value is False else value


Switch = BeforeValidator(_off_is_a_word)
AdapterPath = Annotated[
    str,
    Like(
        r"spacy|presidio|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
        "spacy, presidio, or the import path of a factory: package.module:function",
    ),
]
NameEntity = Annotated[
    str,
    Like(
        r"(?!SECRET_|URL$|URL_CREDENTIALS$|WITHHELD$)[A-Z][A-Z0-9_]{0,31}",
        "capitals, digits and _ (PERSON), and nothing that only rules may find (SECRET_..., URL, WITHHELD)",
    ),
]
SPACY_SCORE: Final = 0.85
"""What every find of spaCy's counts."""


class NerSection(Section):
    """A recogniser of names, in processes of its own. It is used where a connection says so (`ner`)."""

    adapter: AdapterPath
    """`spacy` or `presidio` (`pip install 'affidavit[ner]'`), or `package.module:factory` of your own."""
    entities: Annotated[list[NameEntity], Field(min_length=1)] = ["PERSON", "LOCATION"]
    """What is looked for; a decision acts on each by its name, and masks where it says nothing."""
    score_min: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Finds that the recogniser is less sure of are left out. spaCy says 0.85 of all."""
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes for each worker of the gate: about 200 MB each with a small model."""
    deadline_ms: Annotated[int, Field(ge=50, le=60_000)] = 10_000
    """Time for one body, or for what a piece of a stream brings to its end. One process reads 10 to 20 KB a second."""
    options: dict[str, str | int | float | bool | list[str] | dict[str, str]] = {}
    """The adapter's own: `docs/redaction.md`."""

    @model_validator(mode="after")
    def _can_find(self) -> NerSection:
        once("entities: twice", self.entities)
        if self.adapter == "spacy" and self.score_min > SPACY_SCORE:
            raise ValueError(f"score_min: spaCy says {SPACY_SCORE} of every find, so nothing would be found")
        return self


class TokensSection(Section):
    """Tokens that stand for values (action `tokenise`): kept, encrypted, beside the subjects' keys."""

    ttl_seconds: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    """How long a token that nobody uses again can be resolved. Then its value is gone from the registry."""


class RedactionSection(Section):
    """What may pass."""

    hash_key_file: Path
    """32 random bytes for the action `hash`."""
    rule_packs: tuple[Path, ...] = ()
    """Rules of your own, beside the built-in ones (`docs/redaction.md`); try them with `affidavit rules test FILE`.
    Read when a process starts: an unsafe rule keeps the gateway from starting."""
    ner: NerSection | None = None
    """A recogniser of names, which no rule can find. Left out: none."""
    tokens: TokensSection = TokensSection()
    """How long tokens live."""
