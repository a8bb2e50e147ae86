"""Does Envoy run with what this configuration makes, and with nothing else? Pure.

`ext_proc.app.doctor.envoy` knows the settings that must hold, and says what each is for. There are more ways past the
gate than anyone lists: a listener of another kind, an upgrade with filters of its own, a route to somewhere else. So
all of Envoy's settings are held against ours, and whatever differs is named.
"""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import yaml

from ext_proc.app.doctor.envoy import FAIL, OK, Finding
from ext_proc.edge import EdgeConnection, EdgeSettings, render_bootstrap, render_clusters, render_routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SETTINGS: Final = "envoy.settings"
CONNECTIONS: Final = "envoy.connections"
_NAMED_MAX: Final = 5
_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)s", re.ASCII)
_UNSAID: Final[tuple[Any, ...]] = (
    None,
    False,
    0,
    "",
    [],
    {},
    "AUTO",
    "ALLOW",
    "DYNAMIC",
    "NONE",
    "STATIC",
    "AUTO_HTTP",
    "DNS",
)
"""What Envoy leaves out of its word: the first value of each type. What it does say, it was told."""
_SAME: Final = {(503, "ServiceUnavailable")}
_HIDDEN: Final = ".private_key.filename"
"""Envoy does not say what is of a key, not even where it lies."""
_ABSENT: Final = object()


def compare(
    dump: Mapping[str, Any], settings: EdgeSettings, connections: Sequence[EdgeConnection]
) -> Iterator[Finding]:
    """Envoy's own word, held against what ours is.

    Args:
        dump: what Envoy says of itself.
        settings: what its bootstrap is made of.
        connections: what its routes and clusters are made of.

    Raises:
        ConfigError: the configuration makes no settings for Envoy.
    """
    ours = yaml.safe_load(render_bootstrap(settings))
    resources = ours.pop("static_resources")
    ours.pop("node")  # Envoy adds what it is made of
    theirs = dict(next(_parts(dump, "bootstrap"), {}))
    for one in ("static_resources", "node"):  # what is in force of these is looked at below
        theirs.pop(one, None)
    found = [
        *_differences(ours, theirs, "bootstrap"),
        *_listed(resources["listeners"], _in_force(dump, "listeners", "listener"), "listener"),
    ]
    do = "render the configuration anew (affidavit render) and restart Envoy with it"
    yield _finding(SETTINGS, found, "Envoy's listeners and all else it was started with are this configuration's", do)
    routes, clusters = (
        json.loads(text)["resources"] for text in (render_routes(connections), render_clusters(connections))
    )
    found = [
        *_listed(routes, _in_force(dump, "route_configs", "route_config"), "routes"),
        *_listed([*resources["clusters"], *clusters], _in_force(dump, "clusters", "cluster"), "cluster"),
    ]
    do = "affidavit reload; if it stays so, somebody else tells Envoy where to send calls"
    yield _finding(CONNECTIONS, found, "each route and each cluster is a connection's", do)


def _finding(check: str, found: list[str], says: str, do: str) -> Finding:
    if not found:
        return Finding(check, OK, says)
    more = f" and {len(found) - _NAMED_MAX} more" if len(found) > _NAMED_MAX else ""
    return Finding(check, FAIL, f"not this configuration's: {'; '.join(found[:_NAMED_MAX])}{more}", do)


def _parts(dump: Mapping[str, Any], name: str) -> Iterator[Any]:
    for part in dump.get("configs", ()):
        if name in part:
            yield part[name]


def _in_force(dump: Mapping[str, Any], kind: str, what: str) -> Iterator[Mapping[str, Any]]:
    """Whoever told Envoy of it. One that is only about to be in force, or was refused, is not."""
    for group in (f"static_{kind}", f"dynamic_{kind}", f"dynamic_active_{kind}"):
        for listed in _parts(dump, group):
            for one in listed:
                if "active_state" in one or what in one:
                    yield one.get("active_state", one).get(what, {})


def _listed(ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]], kind: str) -> Iterator[str]:
    wanted = {one["name"]: one for one in ours}
    seen = set()
    for one in theirs:
        name = str(one.get("name", "?"))
        if name not in wanted or name in seen:
            yield f"{kind} {name} is none of ours"
            continue
        seen.add(name)
        yield from _differences(_untyped(wanted[name]), _untyped(one), f"{kind} {name}")
    for name in sorted(wanted.keys() - seen):
        yield f"{kind} {name} is missing"


def _untyped(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name != "@type"}


def _differences(ours: Any, theirs: Any, place: str) -> Iterator[str]:
    """Where, and how; not what: values are long, and some are nobody's business."""
    if theirs is _ABSENT:
        if ours not in _UNSAID:
            yield f"{place} is missing"
    elif ours is _ABSENT:
        yield f"{place} is set"
    elif isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(name, _ABSENT), theirs.get(name, _ABSENT), f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        for number, (one, other) in enumerate(zip_longest(ours, theirs, fillvalue=_ABSENT)):
            named = next((each["name"] for each in (other, one) if isinstance(each, dict) and "name" in each), number)
            yield from _differences(one, other, f"{place}[{named}]")
    elif not (_is_same(ours, theirs) or (place.endswith(_HIDDEN) and theirs == "[redacted]")):
        yield f"{place} is another"


def _is_same(ours: Any, theirs: Any) -> bool:
    if ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool):
        return True
    if (ours, theirs) in _SAME:
        return True
    times = [_SECONDS.fullmatch(one) if isinstance(one, str) else None for one in (ours, theirs)]
    if all(times):
        return len({float(one[1]) for one in times if one}) == 1
    is_number = isinstance(ours, int) and not isinstance(ours, bool)
    return is_number and str(ours) == theirs  # 64 bits are text in JSON
