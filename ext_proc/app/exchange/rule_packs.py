"""The redaction rules of a gateway: the built-in ones, and those of the packs that its configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError
from ext_proc.redaction import BUILT_IN, RULES, Detector, packs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ext_proc.config import Config
    from ext_proc.redaction.packs import Pack
    from ext_proc.redaction.rule import Rule


_BUILT_IN: Final = {rule.id: f"the built-in pack {rule.pack}" for rule in RULES}


def read_pack(path: Path, taken: Mapping[str, str] = _BUILT_IN) -> Pack:
    """The pack in a file.

    Args:
        path: the file.
        taken: who has which ids already. Records and streams know a rule by its id: of two, one would be lost sight of.

    Raises:
        ConfigError: it cannot be read, or is refused (`packs.BadPack`).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    pack = packs.read_pack(data, str(path))
    twice = [rule.id for rule in pack.rules if rule.id in taken]
    if twice:
        remedy = "give yours another"
        raise packs.BadPack(
            str(path), tuple(packs.Problem(one, f"a rule of {taken[one]} has this id", remedy) for one in twice)
        )
    return pack


def rules_of(config: Config) -> Sequence[Rule]:
    """Every rule that is looked for.

    Raises:
        ConfigError: a pack cannot be read, or is refused.
    """
    rules = list(RULES)
    taken = dict(_BUILT_IN)
    for path in config.redaction.rule_packs:
        more = read_pack(path, taken).rules
        taken |= {rule.id: str(path) for rule in more}
        rules += more
    return rules


def detector_of(config: Config) -> Detector:
    """What finds them.

    Raises:
        ConfigError: a pack cannot be read, or is refused.
    """
    return Detector(rules_of(config)) if config.redaction.rule_packs else BUILT_IN
