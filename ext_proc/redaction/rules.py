r"""The rules, as data.

A rule is looked for only where its ``anchor`` occurs (the gate), in a window of ``before`` and ``after`` characters
around it. ``pattern`` finds the candidate: group 1 where it has one, else the whole match. ``validator`` confirms it.
Patterns have no nested repetition over the same characters, so a scan is linear in the text. ``\w``, ``\d`` and
``\b`` mean ASCII, as in the gate: a value that stands right after a Chinese character is still a value.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.redaction import validators as check

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET_PREFIX: Final = "SECRET_"
KEY_MARK: Final = "\x1f"
"""Stands between a key and its value when they are scanned together (ASCII's unit separator)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to find one entity."""

    id: str
    entity: str
    anchor: str
    pattern: re.Pattern[str]
    validator: Callable[[str], int]
    before: int
    after: int
    score: float
    version: str = "1"


def _rule(  # noqa: PLR0913 - a row of a table
    rule_id: str,
    entity: str,
    anchor: str,
    pattern: str,
    validator: Callable[[str], int] = check.always,
    *,
    before: int = 0,
    after: int = 256,
    score: float = 0.9,
) -> Rule:
    return Rule(rule_id, entity, anchor, re.compile(pattern, re.ASCII), validator, before, after, score)


_MONTH: Final = r"(?:[Jj]an|[Ff]eb|[Mm]ar|[Aa]pr|[Mm]ay|[Jj]un|[Jj]ul|[Aa]ug|[Ss]ep|[Oo]ct|[Nn]ov|[Dd]ec)[a-z]{0,6}\.?"
_DATE: Final = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? \d{{4}})"
)
_BIRTH: Final = r"(?:[Bb][Oo][Rr][Nn]|[Bb][Ii][Rr][Tt][Hh]|[Dd]\.?[Oo]\.?[Bb]\b)"
_PASSWORD_WORD: Final = (
    r"(?:[Pp][Aa][Ss][Ss](?:[Ww][Oo][Rr][Dd]|[Ww][Dd]|[Pp][Hh][Rr][Aa][Ss][Ee])|\b[Pp][Ww][Dd]|[Ss][Ee][Cc][Rr][Ee][Tt]"
    r"|[Aa][Pp][Ii][ _-]?[Kk][Ee][Yy]|[Aa][Cc][Cc][Ee][Ss][Ss][ _-]?[Kk][Ee][Yy]|[Tt][Oo][Kk][Ee][Nn])"
)
# Letters beyond ASCII that names before and after an "@" are written in (RFC 6531, RFC 5890).
_LOCAL: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u00c0-\u024f\u0370-\u08ff-]{1,64}"
_FOREIGN: Final = r"\u00c0-\u1fff\u2c00-\u2fef\u3005-\ud7ff"
_DOMAIN: Final = (
    r"(?:(?:[A-Za-z0-9_-]{1,63}\.){1,32}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})(?![\u00c0-\u08ff])"
    rf"|(?:[A-Za-z0-9_{_FOREIGN}-]{{1,63}}\.){{1,32}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|[{_FOREIGN}]{{2,24}})"
    r"|\[[0-9A-Fa-f:.]{3,45}\])"
)
# Digits, perhaps grouped; used as an anchor for everything that is a number.
_DIGITS: Final = r"\d[\d ().\-/]{5,}\d"

RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "email",
        "EMAIL",
        "@",
        rf"(?:\"[^\"\r\n@]{{1,62}}\"|{_LOCAL})@{_DOMAIN}",
        before=64,
        after=320,
        score=0.95,
    ),
    _rule(
        "email-spelled",
        "EMAIL",
        r"(?:[\[({<] ?[Aa][Tt] ?[\])}>]| @ )",
        rf"{_LOCAL}(?: ?[\[({{<] ?[Aa][Tt] ?[\])}}>] ?| @ )"
        r"(?:[A-Za-z0-9-]{1,63} ?(?:\.|[\[({<] ?[Dd][Oo][Tt] ?[\])}>]) ?){1,8}[A-Za-z]{2,24}",
        before=66,
        after=320,
        score=0.85,
    ),
    _rule(
        "phone",
        "PHONE",
        _DIGITS,
        r"(?<![\w.+/=-])(?:\+(?:[ .\-/()]{0,2}\d){7,15}"
        r"|\(\d{3}\) ?\d{3}[ .\-]?\d{4}|(?:1[ .\-])?\d{3}[ .\-]\d{3}[ .\-]\d{4})(?![\w-]|\.\d)",
        check.phone,
        before=8,
        after=8,
        score=0.7,
    ),
    _rule(
        "phone-international",
        "PHONE",
        r"\+\d{7}",
        r"(?<![\w+])\+\d{8,15}(?!\w)",
        check.phone,
        before=1,
        after=24,
        score=0.75,
    ),
    _rule(
        "phone-in-context",
        "PHONE",
        r"(?:[Pp]hone|[Mm]obile|[Tt]el\b|[Cc]all|[Tt]ext me|[Ff]ax|[Cc]ell|SMS)",
        r"(?<![\w.])\(?\+?\d(?:[ .\-/()]{0,2}\d){6,14}(?!\w)",
        check.phone,
        after=48,
        score=0.6,
    ),
    _rule(
        "payment-card",
        "PAYMENT_CARD",
        r"\d[\d .\-]{11,}\d",
        r"(?<!\d)(?<!\d\.)\d(?:[ .-]?\d){12,18}(?!\d)",
        check.payment_card,
        before=2,
        after=8,
        score=0.95,
    ),
    _rule(
        "us-ssn",
        "US_SSN",
        r"\d{3}[- .]\d{2}[- .]\d{4}",
        r"(?<!\d)(?!000|666|9\d\d)\d{3}(?:-(?!00)\d{2}-|\.(?!00)\d{2}\.| (?!00)\d{2} )(?!0000)\d{4}(?!\d)",
        before=2,
        after=2,
        score=0.9,
    ),
    _rule(
        "us-ssn-in-context",
        "US_SSN",
        r"(?:[Ss][Ss][Nn]|[Ss]ocial [Ss]ecurity)",
        r"(?<!\d)(?!000|666|9\d\d)\d{3}[- .]?(?!00)\d{2}[- .]?(?!0000)\d{4}(?!\d)",
        after=48,
        score=0.9,
    ),
    _rule(
        "iban",
        "IBAN",
        r"[A-Za-z]{2}\d{2}[ -]?[A-Za-z0-9]{3}",
        r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}",
        check.iban,
        before=1,
        after=64,
        score=0.95,
    ),
    _rule(
        "ipv4",
        "IP_ADDRESS",
        r"\d\.\d{1,3}\.\d{1,3}\.\d",
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)",
        check.ip,
        before=4,
        after=4,
        score=0.7,
    ),
    _rule(
        "ipv6",
        "IP_ADDRESS",
        r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}",
        r"(?<![:\w])(?=[0-9A-Fa-f:]*[0-9A-Fa-f])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![:\w])",
        check.ip,
        before=8,
        after=40,
        score=0.7,
    ),
    _rule(
        "url-credentials",
        "URL_CREDENTIALS",
        "://",
        r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,64}:[^\s/@\"'<>]{1,512}@[^\s/\"'<>]{1,255}",
        before=24,
        after=1024,
        score=0.97,
    ),
    _rule("date-of-birth", "DATE_OF_BIRTH", _BIRTH, rf"(?<!\d){_DATE}(?!\d)", after=48, score=0.8),
    _rule(
        "passport",
        "PASSPORT",
        r"(?:[Pp]assport|PASSPORT)",
        r"(?<![A-Za-z0-9])[A-Za-z]{0,2}\d{6,9}(?![A-Za-z0-9])",
        after=56,
        score=0.8,
    ),
    _rule(
        "driver-license",
        "DRIVER_LICENSE",
        r"(?:[Dd]riv(?:er|ing)(?:'|" + "\u2019" + r")?s?[ _-]?[Ll]icen[cs]e|DRIVER.?S? LICEN[CS]E|\bDL ?(?:#|[Nn]o|[Nn]umber))",
        r"(?<![A-Za-z0-9])(?=[A-Z0-9-]*\d)[A-Z]{0,3}\d[A-Z0-9-]{3,18}(?![A-Za-z0-9])",
        check.has_digits,
        after=56,
        score=0.7,
    ),
    _rule("aws-access-key", "SECRET_CLOUD_KEY", r"A(?:KIA|SIA|BIA|CCA|ROA)[A-Z0-9]{4}", r"(?<![A-Z0-9])A(?:KIA|SIA|BIA|CCA|ROA)[A-Z0-9]{16,}", before=1, score=0.98),
    _rule("aws-secret-key", "SECRET_CLOUD_KEY", r"(?:[Aa][Ww][Ss]|[Ss]ecret|SECRET)", r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])", check.token, after=96, score=0.9),
    _rule("gcp-api-key", "SECRET_CLOUD_KEY", "AIza", r"AIza[0-9A-Za-z_-]{35,}", score=0.98),
    _rule("azure-storage-key", "SECRET_CLOUD_KEY", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{40,}={0,2})", score=0.98),
    _rule("github-token", "SECRET_GITHUB", r"gh[pousr]_[A-Za-z0-9]{4}", r"gh[pousr]_[A-Za-z0-9]{20,}", score=0.98),
    _rule("github-pat", "SECRET_GITHUB", "github_pat_", r"github_pat_[A-Za-z0-9_]{20,}", score=0.98),
    _rule("slack-token", "SECRET_SLACK", r"xox[abeoprs]-", r"xox[abeoprs]-[A-Za-z0-9-]{10,}", score=0.98),
    _rule("slack-webhook", "SECRET_SLACK", "hooks.slack.com/", r"https://hooks\.slack\.com/[A-Za-z0-9/_-]{12,}", before=8, score=0.98),
    _rule("jwt", "SECRET_JWT", "eyJ", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", before=1, after=16384, score=0.97),
    _rule("pem-private-key", "SECRET_PEM", "PRIVATE KEY-----", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", before=48, after=16384, score=0.99),
    _rule("openai-anthropic-key", "SECRET_API_KEY", "sk-", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}", check.token, before=1, score=0.97),
    _rule("stripe-key", "SECRET_API_KEY", r"[srp]k_(?:live|test)_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}", score=0.98),
    _rule("gitlab-token", "SECRET_API_KEY", "glpat-", r"glpat-[A-Za-z0-9_-]{16,}", score=0.98),
    _rule("npm-token", "SECRET_API_KEY", "npm_", r"npm_[A-Za-z0-9]{30,}", score=0.98),
    _rule("hugging-face-token", "SECRET_API_KEY", "hf_", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}", before=1, score=0.98),
    _rule("sendgrid-key", "SECRET_API_KEY", r"SG\.", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", score=0.98),
    _rule("bearer-token", "SECRET_API_KEY", r"[Bb](?:earer|EARER) ", r"[Bb](?:earer|EARER) {1,4}([A-Za-z0-9\-._~+/]{16,}=*)", check.token, score=0.9),
    _rule("basic-credentials", "SECRET_PASSWORD", r"[Bb](?:asic|ASIC) ", r"[Bb](?:asic|ASIC) {1,4}([A-Za-z0-9+/_-]{6,}={0,2})", check.basic, score=0.9),
    _rule(
        "password-assignment",
        "SECRET_PASSWORD",
        _PASSWORD_WORD,
        _PASSWORD_WORD + r"[\"']?(?: ?(?:[:=]|=>|is)|:)[ \"']{0,3}([^\s\"',;]{6,})",
        check.password,
        after=192,
        score=0.85,
    ),
    _rule(
        "password-key",
        "SECRET_PASSWORD",
        r"[Pp][Aa][Ss][Ss](?:[Ww][Oo][Rr][Dd]|[Ww][Dd]|[Pp][Hh][Rr][Aa][Ss][Ee])\x1f",
        r"\x1f: (\S[\s\S]*)\Z",
        check.keyed_password,
        after=512,
        score=0.9,
    ),
    _rule(
        "secret-key",
        "SECRET_PASSWORD",
        _PASSWORD_WORD + r"\x1f",
        r"\x1f: (\S{6,})\Z",
        check.password,
        after=512,
        score=0.85,
    ),
)  # fmt: skip

ENTITIES: Final = tuple(sorted({rule.entity for rule in RULES}))

RULES_VERSION: Final = hashlib.sha256(
    "\n".join(f"{r.id} {r.entity} {r.anchor} {r.pattern.pattern} {r.version}" for r in RULES).encode()
).hexdigest()[:12]
"""Names the rules as they are: part of every record."""


def is_secret(entity: str) -> bool:
    """Is it a credential? Those are never shown in part, hashed or let through."""
    return entity.startswith(SECRET_PREFIX) or entity == "URL_CREDENTIALS"
