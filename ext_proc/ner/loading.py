"""Makes the recogniser that a recipe names. Only ever called in a recogniser's own process."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ext_proc.ner.recogniser import VERSION, BadRecipe

if TYPE_CHECKING:
    from ext_proc.ner.recogniser import Recipe, Recogniser


def load(recipe: Recipe) -> Recogniser:
    """The recogniser, which knows all that it shall look for.

    Raises:
        BadRecipe: it cannot be had, or does not know an entity.
    """
    module, _, name = recipe.factory.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise BadRecipe(f"adapter: there is no module {error.name}{_remedy(recipe)}") from None
    except AttributeError:
        raise BadRecipe(f"adapter: there is no {name} in {module}") from None
    recogniser: Recogniser = factory(recipe)
    if not VERSION.fullmatch(recogniser.version):
        raise BadRecipe("adapter: its version must be letters, digits and . _ : / @ + -, 64 at most")
    unknown = sorted(set(recipe.entities) - recogniser.entities)
    if unknown:
        known = ", ".join(sorted(recogniser.entities))
        raise BadRecipe(f"entities: {unknown[0]} is not among what it finds ({known})")
    return recogniser


def _remedy(recipe: Recipe) -> str:
    return "; it comes with pip install 'affidavit[ner]'" if recipe.adapter != recipe.factory else ""


def text_option(options: dict[str, Any], name: str, default: str) -> str:
    """Take an option that is a text out of ``options``.

    Raises:
        BadRecipe: it is none.
    """
    value = options.pop(name, default)
    if not isinstance(value, str) or not value:
        raise BadRecipe(f"options.{name}: must be a text")
    return value


def refuse_others(options: dict[str, Any], known: str) -> None:
    """All options must have been taken out by now.

    Raises:
        BadRecipe: one was not.
    """
    if options:
        raise BadRecipe(f"options.{min(options)}: unknown; there are {known}")
