"""The bill of materials of an image: CycloneDX 1.6 in JSON, by hand, for the recipe has only the standard library.

A test holds it against the schema with OWASP's own library.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from images.archive import instant

if TYPE_CHECKING:
    from collections.abc import Iterable


class Component(NamedTuple):
    """One thing that came from elsewhere."""

    name: str
    version: str
    url: str
    """Its package URL (purl)."""
    sha256: str = ""
    """Of what was fetched (or of the program); empty where there is no single file."""
    licence: str = ""
    """An SPDX expression, if it says one of itself."""


def bill(name: str, version: str, components: Iterable[Component], epoch: int) -> bytes:
    """The bill of one image. The same components give the same bytes, its serial number among them."""
    listed = [_component(one) for one in sorted(set(components))]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([name, version, epoch, listed], sort_keys=True))
    whole = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": instant(epoch),
            "component": {"type": "container", "bom-ref": name, "name": name, "version": version},
        },
        "components": listed,
        "dependencies": [{"ref": name, "dependsOn": [one["bom-ref"] for one in listed]}],
    }
    return json.dumps(whole, indent=1).encode() + b"\n"


def _component(one: Component) -> dict[str, Any]:
    url = quote(one.url, safe="/:@?=&%~.")
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": url,
        "name": one.name,
        "version": one.version,
        "purl": url,
    }
    if one.sha256:
        made["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
    if one.licence:
        made["licenses"] = [{"expression": one.licence}]
    return made
