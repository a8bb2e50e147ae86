"""The whole configuration: one YAML file, read strictly. No environment overlay: the file is the answer.

`load` refuses a misspelt key, a key that stands twice, a wrong type and YAML's ``no`` for a text. What parts of the
file say about each other is checked too (`whole`): a wrong file is found before anything runs. Secrets are named by
file path, never written here. A module for each part of the file; the docstring of each field is its documentation,
and ``docs/configuration.md`` is made of them.
"""

from ext_proc.config.approvals import ChannelSection, EmailSection, SlackSection, WebhookSection
from ext_proc.config.audit import S3Section, WalSection
from ext_proc.config.connections import ConnectionNer
from ext_proc.config.console import ConsoleSection
from ext_proc.config.fields import MIB, ProtocolName
from ext_proc.config.identity import Claims, Issuer
from ext_proc.config.policy import BundleS3Section, DistributionSection
from ext_proc.config.reading import files_missing, load, read
from ext_proc.config.redaction import NerSection
from ext_proc.config.whole import Config

__all__ = [
    "MIB",
    "BundleS3Section",
    "ChannelSection",
    "Claims",
    "Config",
    "ConnectionNer",
    "ConsoleSection",
    "DistributionSection",
    "EmailSection",
    "Issuer",
    "NerSection",
    "ProtocolName",
    "S3Section",
    "SlackSection",
    "WalSection",
    "WebhookSection",
    "files_missing",
    "load",
    "read",
]
