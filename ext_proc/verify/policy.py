"""The auditor's policy file: what he trusts and what he asks for. Section 8 of ``docs/record-format.md``."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from cryptography.x509 import load_pem_x509_certificate
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ext_proc.verify.findings import VerifyError
from ext_proc.verify.notes import WitnessKey, witness_key

if TYPE_CHECKING:
    from pathlib import Path


def _key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise ValueError("is not the base64 of a 32-byte Ed25519 public key")
    return text


def _certificate(text: str) -> str:
    load_pem_x509_certificate(text.encode())
    return text


def _witness(text: str) -> str:
    witness_key(text)
    return text


def _written(value: object) -> str:
    """YAML reads a time that has no quotes as a time."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Witnesses(_Strict):
    """Whose cosignatures count, and how many of them are needed."""

    keys: tuple[Annotated[str, AfterValidator(_witness)], ...]
    quorum: int = Field(ge=1, le=100)


class RetiredKey(_Strict):
    """A pinned key that counts only until then."""

    key: Annotated[str, AfterValidator(_key)]
    until: AwareDatetime


class AuditorPolicy(_Strict):
    """The file as a whole."""

    schema_: Literal["affidavit/policy/v1"] = Field(alias="schema")
    gateway: str = Field(min_length=1, max_length=200)
    log_keys: tuple[Annotated[str, AfterValidator(_key)] | RetiredKey, ...] = Field(min_length=1)
    retention_days: int = Field(ge=0, le=36500)
    heartbeat_seconds: int = Field(ge=1, le=86400)
    tsa_certificates: tuple[Annotated[str, AfterValidator(_certificate)], ...] = ()
    witnesses: Witnesses | None = None
    clock_tolerance_seconds: int = Field(default=300, ge=0, le=86400)

    @property
    def public_keys(self) -> list[bytes]:
        """The pinned keys, raw."""
        return [base64.b64decode(one if isinstance(one, str) else one.key) for one in self.log_keys]

    @property
    def retired(self) -> dict[bytes, datetime]:
        """Until when pinned keys count that do not count for ever."""
        return {base64.b64decode(one.key): one.until for one in self.log_keys if isinstance(one, RetiredKey)}

    @property
    def witness_keys(self) -> list[WitnessKey]:
        """The witnesses' keys."""
        return [witness_key(text) for text in self.witnesses.keys] if self.witnesses else []

    @property
    def tolerance(self) -> timedelta:
        """How far clocks may differ."""
        return timedelta(seconds=self.clock_tolerance_seconds)

    @property
    def heartbeat(self) -> timedelta:
        """The longest silence of a healthy log."""
        return timedelta(seconds=self.heartbeat_seconds)

    @property
    def grace(self) -> timedelta:
        """How long what follows an object may take to arrive: its checkpoint, its digest, the leaf that names it."""
        return self.tolerance + 2 * self.heartbeat


def load(path: Path) -> AuditorPolicy:
    """Read the file.

    Raises:
        VerifyError: it cannot be read or is not valid; names the field.
    """
    try:
        told = yaml.safe_load(path.read_bytes())
        return AuditorPolicy.model_validate_json(json.dumps(told, default=_written))
    except OSError as error:
        raise VerifyError(f"policy file {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise VerifyError(f"policy file {path}: {field}: {first['msg']}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise VerifyError(f"policy file {path}: not a YAML file of the form affidavit/policy/v1") from None
