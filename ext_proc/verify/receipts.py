"""Receipts that callers kept (section 7 of ``docs/record-format.md``): one a line, as the response header had it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.verify import notes
from ext_proc.verify.findings import VerifyError

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.verify.epoch import Epoch
    from ext_proc.verify.roster import Birth
    from ext_proc.verify.run import Run

_HEADER: Final = "x-affidavit-receipt:"
_LINE_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Receipt:
    """One line of the file."""

    where: str
    origin: str
    sequence: int
    leaf_hash: bytes
    signature: bytes

    @property
    def message(self) -> bytes:
        """What is signed."""
        return f"affidavit receipt v1\n{self.origin}\n{self.sequence}\n{self.leaf_hash.hex()}\n".encode()


class Receipts:
    """The file, and which leaves it asks for."""

    def __init__(self, run: Run, path: Path | None) -> None:
        self._run = run
        self._receipts: list[Receipt] = []
        self._hashes: dict[tuple[str, str, int], bytes] = {}
        if path is not None:
            self._read(path)

    def wanted(self, log: tuple[str, str]) -> list[int]:
        """The sequences of one log whose leaf hashes are needed."""
        origin = self._run.origin(log)
        return sorted({one.sequence for one in self._receipts if one.origin == origin})

    def take(self, log: tuple[str, str], hashes: dict[int, bytes]) -> None:
        """The hashes that were asked for."""
        for sequence, found in hashes.items():
            self._hashes[(*log, sequence)] = found

    def check(self, epochs: dict[tuple[str, str], Epoch], births: dict[tuple[str, str], Birth]) -> None:
        """Signature first; then the leaf."""
        findings = self._run.findings
        for one in self._receipts:
            log = self._run.log_of(one.origin)
            birth = births.get(log) if log else None
            if log is None or birth is None or birth.receipt_key is None:
                if log is None or log not in epochs:
                    what = f"It speaks of {one.origin}, a log that is not there."
                    findings.add("receipt_unmatched", one.where, what)
                else:
                    findings.add("receipt_forged", one.where, f"{one.origin} made no receipts.")
            elif not notes.is_signed(birth.receipt_key, one.signature, one.message):
                findings.add("receipt_forged", one.where, f"{one.origin} did not sign it.")
            elif self._hashes.get((*log, one.sequence)) != one.leaf_hash:
                what = f"{one.origin} signed it, but record {one.sequence} is another one or not there."
                findings.add("receipt_unmatched", one.where, what)

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                number = 0
                while line := file.readline(_LINE_MAX):
                    number += 1
                    self._take_line(f"{path.name}:{number}", line)
        except OSError as error:
            raise VerifyError(f"receipts {path}: {error.strerror}") from None

    def _take_line(self, where: str, line: bytes) -> None:
        try:
            text = line.decode().strip()
            if text.lower().startswith(_HEADER):
                text = text[len(_HEADER) :].strip()
            if not text:
                return
            origin, sequence, digest, signature = text.split(";")
            if not (sequence.isascii() and sequence.isdigit() and len(digest) == 64):
                raise ValueError
            made = Receipt(
                where, origin, int(sequence), bytes.fromhex(digest), base64.b64decode(signature, validate=True)
            )
        except (ValueError, UnicodeDecodeError, binascii.Error):
            self._run.findings.add("receipt_forged", where, "It does not look like a receipt.")
            return
        self._receipts.append(made)
