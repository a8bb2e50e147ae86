"""YAML that says each thing once: for files that people write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Hashable


class KeyTwiceError(Exception):
    """Of two values for one key YAML would take the last: which one won?"""


class BadYamlError(Exception):
    """It is no such YAML; the message says what is wrong, and where."""


def read(data: bytes) -> Any:
    """What a file says.

    Raises:
        BadYamlError: it is not YAML, or a key stands twice.
    """
    try:
        return yaml.load(data, StrictLoader)  # noqa: S506 - a SafeLoader that is stricter still
    except KeyTwiceError as error:
        raise BadYamlError(str(error)) from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        # A tag whose value is none of its kind (`!!int ''`, `!!bool x`) is an IndexError or KeyError of the library's.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise BadYamlError(f"not valid YAML{where}") from None


class StrictLoader(yaml.SafeLoader):
    """YAML without a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - yaml's
        """As YAML's own, where each key stands once.

        Raises:
            KeyTwiceError: one does not.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise KeyTwiceError(f"line {key.start_mark.line + 1}: {key.value} stands twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)
