"""A recogniser's own process: ``python -m ext_proc.ner.child FD``. It ends when the gate's side of the line does.

It says once who it is, or why it cannot be made; then it answers texts with places. It writes nothing anywhere: what a
library prints of a text must not end in a log.
"""

from __future__ import annotations

import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from ext_proc.ner import wire
from ext_proc.ner.loading import load
from ext_proc.ner.recogniser import BadRecipe, Recipe

if TYPE_CHECKING:
    from ext_proc.ner.recogniser import Recogniser

_WARM_UP: Final = "Somebody will write to nobody in the morning."


def main(arguments: list[str]) -> int:
    """Serve until the line ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gate's to handle: it closes the line when it is done
    with socket.socket(fileno=int(arguments[0])) as line:
        try:
            _serve(line)
        except wire.Broken:
            return 0
    return 1


def _serve(line: socket.socket) -> None:
    told = wire.receive(line)
    recipe = Recipe(told["adapter"], tuple(told["entities"]), told["score_min"], told["options"])
    try:
        recogniser = load(recipe)
        recogniser.recognise([_WARM_UP])
    except BadRecipe as bad:
        wire.send(line, {"refused": str(bad)})
        return
    except Exception as error:  # noqa: BLE001 - somebody else's code: of any kind, and told to whoever starts the gate
        wire.send(line, {"refused": f"adapter: it fails to load ({type(error).__name__}: {error})"})
        return
    wire.send(line, {"version": recogniser.version})
    while True:
        wire.send(line, _answer(recogniser, recipe, wire.receive(line)))


def _answer(recogniser: Recogniser, recipe: Recipe, texts: list[str]) -> dict[str, Any]:
    try:
        found = recogniser.recognise(texts)
        return {
            "found": [
                [
                    [span.start, span.end, span.entity, span.score]
                    for span in spans
                    # Not ">=": a score that is no number must be seen by the gate, not left out here.
                    if span.entity in recipe.entities and not span.score < recipe.score_min
                ]
                for spans in found
            ]
        }
    except Exception as error:  # noqa: BLE001 - somebody else's code: of any kind; its words may quote the text
        return {"failed": type(error).__name__}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
