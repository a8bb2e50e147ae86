"""The redaction rules of a gateway: the built-in ones, and those of the packs that its configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.errors import ConfigError
from ext_proc.redaction import BUILT_IN, RULES, Detector, packs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.config import Config
    from ext_proc.redaction.packs import Pack
    from ext_proc.redaction.rule import Rule


def read_pack(path: Path) -> Pack:
    """The pack in a file.

    Raises:
        ConfigError: it cannot be read, or is refused (`packs.BadPack`).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return packs.read_pack(data, str(path))


def rules_of(config: Config) -> Sequence[Rule]:
    """Every rule that is looked for.

    Raises:
        ConfigError: a pack cannot be read, or is refused.
    """
    return [*RULES, *(rule for path in config.redaction.rule_packs for rule in read_pack(path).rules)]


def detector_of(config: Config) -> Detector:
    """What finds them.

    Raises:
        ConfigError: a pack cannot be read, or is refused.
    """
    return Detector(rules_of(config)) if config.redaction.rule_packs else BUILT_IN
