"""Names of people and places: what no rule can find, found by a recogniser that somebody else wrote.

It never runs in the gate's own process: `Pool` keeps a few processes that load it, starts them again when they die, and
says within a deadline what was found or that nothing could be found out (`errors.RecogniserUnavailable`). What comes
back is held against the port (`recogniser`) before it counts. Which part of a text may be looked at alone, so that a
stream gives the same whatever its pieces, is `cutting`.
"""

from ext_proc.ner.cutting import CUTS, cut_up, has_letters, is_prose, outside, parts, placeholder_of
from ext_proc.ner.pool import Pool, try_out
from ext_proc.ner.recogniser import ADAPTERS, BadRecipe, Recipe, Recogniser

__all__ = [
    "ADAPTERS",
    "CUTS",
    "BadRecipe",
    "Pool",
    "Recipe",
    "Recogniser",
    "cut_up",
    "has_letters",
    "is_prose",
    "outside",
    "parts",
    "placeholder_of",
    "try_out",
]
