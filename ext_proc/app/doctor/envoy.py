"""What must hold of a running Envoy's settings, judged by its own ``/config_dump``. Pure.

The rendered bootstrap is only what Envoy was told to load. What it runs with is what counts: an operator's override, an
older file, another control plane would all be seen here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

EXT_PROC: Final = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
RBAC: Final = "envoy.extensions.filters.http.rbac.v3.RBAC"
LUA: Final = "envoy.extensions.filters.http.lua.v3.Lua"
_MANAGER: Final = "HttpConnectionManager"
_RENDER: Final = "render the configuration anew (affidavit render) and restart Envoy with it"
_STREAMED: Final = "STREAMED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor's report: of what, how it is, in words, and what to do where it is not well."""

    check: str
    verdict: str
    says: str
    do: str = ""


def judge(dump: Mapping[str, Any], access_log: str) -> Iterator[Finding]:
    """Every listener's chain of filters, and every route.

    Args:
        dump: what Envoy says.
        access_log: the file that it must write.
    """
    managers = list(_managers(dump))
    if not managers:
        yield Finding("envoy.listeners", FAIL, "no HTTP listener", _RENDER)
        return
    problems: dict[str, list[str]] = {name: [] for name in _SAYS}
    for listener, manager in managers:
        for name, found in _of_manager(manager, access_log):
            problems[name].append(f"{listener}: {found}")
    problems["envoy.routes"] = [f"{place}: {what}" for place, what in _taken_off(dump)]
    for name, (says, do) in _SAYS.items():
        told = problems[name]
        yield Finding(name, FAIL, "; ".join(told), do) if told else Finding(name, OK, says)


_SAYS: Final = {
    "envoy.gate": ("ext_proc is there once, and failure_mode_allow is false", _RENDER),
    "envoy.request_gate": ("no request passes behind ext_proc without its word", _RENDER),
    "envoy.response_gate": ("no answer passes before ext_proc has released it", _RENDER),
    "envoy.modes": ("bodies are BUFFERED; only an upgrade and a masked stream may change that", _RENDER),
    "envoy.edge": ("Envoy makes request ids, and trusts no address", _RENDER),
    "envoy.access_log": ("the access log is a file, and the right one", _RENDER),
    "envoy.routes": ("no route is taken out from under the gate", _RENDER),
}


def _managers(dump: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for listener in _listeners(dump):
        for chain in [*listener.get("filter_chains", ()), listener.get("default_filter_chain") or {}]:
            for one in chain.get("filters", ()):
                typed = one.get("typed_config", {})
                if _type(typed).endswith(_MANAGER):
                    yield str(listener.get("name", "?")), typed


def _listeners(dump: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in dump.get("configs", ()):
        for static in part.get("static_listeners", ()):
            yield static.get("listener", {})
        for dynamic in part.get("dynamic_listeners", ()):
            yield dynamic.get("active_state", {}).get("listener", {})


def _type(typed: Mapping[str, Any]) -> str:
    return str(typed.get("@type", "")).rpartition("/")[2]


def _of_manager(manager: Mapping[str, Any], access_log: str) -> Iterator[tuple[str, str]]:
    yield from _of_chain(manager)
    for one in manager.get("http_filters", ()):
        if one.get("disabled"):
            yield "envoy.gate", f"filter {one.get('name')} is disabled"
    if not manager.get("use_remote_address", False):
        yield "envoy.edge", "use_remote_address is false: callers choose request ids and addresses"
    if manager.get("preserve_external_request_id", False):
        yield "envoy.edge", "preserve_external_request_id is true"
    files = [one.get("typed_config", {}).get("path") for one in manager.get("access_log", ())]
    if access_log not in files:
        yield "envoy.access_log", f"not {access_log} but {', '.join(map(str, files)) or 'none'}"


def _of_chain(manager: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Requests pass the filters downwards, answers upwards: one gate behind ext_proc, one before."""
    filters = [one.get("typed_config", {}) for one in manager.get("http_filters", ())]
    names = [_type(one) for one in filters]
    if names.count(EXT_PROC) != 1:
        yield "envoy.gate", f"{names.count(EXT_PROC)} ext_proc filters"
        return
    place = names.index(EXT_PROC)
    gate = filters[place]
    if gate.get("failure_mode_allow", False):
        yield "envoy.gate", "failure_mode_allow is true: calls pass when the gate fails"
    for field in ("observability_mode", "http_service"):
        if gate.get(field):
            yield "envoy.gate", f"{field} is set"
    for what in _modes(gate):
        yield "envoy.modes", what
    if not any(_demands_word(one) for one in filters[place + 1 :] if _type(one) == RBAC):
        yield "envoy.request_gate", "no RBAC filter behind ext_proc that demands its word"
    if not any(_watches(one) for one in filters[:place] if _type(one) == LUA):
        yield "envoy.response_gate", "no response gate before ext_proc"


def _modes(gate: Mapping[str, Any]) -> Iterator[str]:
    modes = gate.get("processing_mode", {})
    for field in ("request_body_mode", "response_body_mode"):
        if modes.get(field, "NONE") != "BUFFERED":
            yield f"{field} is {modes.get(field, 'NONE')}"
    for field in ("request_header_mode", "response_header_mode"):
        if modes.get(field, "DEFAULT") == "SKIP":
            yield f"{field} is SKIP"
    if not gate.get("allow_mode_override", False):
        return
    listed = gate.get("allowed_override_modes", ())
    allowed = {(one.get("request_body_mode", "NONE"), one.get("response_body_mode", "NONE")) for one in listed}
    if not allowed or not allowed <= {("NONE", "NONE"), ("BUFFERED", _STREAMED)}:
        yield f"a worker may change the modes to {sorted(allowed) or 'any'}"


def _demands_word(rbac: Mapping[str, Any]) -> bool:
    """ALLOW only where the metadata says ``affidavit.decision: allow``."""
    rules = rbac.get("rules", {})
    policies = rules.get("policies", {})
    return rules.get("action", "ALLOW") == "ALLOW" and bool(policies) and all(map(_is_word, policies.values()))


def _is_word(policy: Mapping[str, Any]) -> bool:
    return bool(policy.get("permissions")) and all(_names_word(one) for one in policy["permissions"])


def _names_word(permission: Mapping[str, Any]) -> bool:
    sourced = permission.get("sourced_metadata", {})
    matcher = sourced.get("metadata_matcher") or permission.get("metadata", {})
    path = [one.get("key") for one in matcher.get("path", ())]
    exact = matcher.get("value", {}).get("string_match", {}).get("exact")
    return (matcher.get("filter"), path, exact) == ("affidavit", ["decision"], "allow")


def _watches(lua: Mapping[str, Any]) -> bool:
    source = lua.get("default_source_code", {}).get("inline_string", "")
    return "envoy_on_response" in source and "affidavit" in source


def _taken_off(dump: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Routes (and virtual hosts) that change the gate or the gates behind and before it for themselves."""
    for part in dump.get("configs", ()):
        for kind in ("static_route_configs", "dynamic_route_configs"):
            for one in part.get(kind, ()):
                table = one.get("route_config", {})
                yield from _changed("the table", table)
                for host in table.get("virtual_hosts", ()):
                    yield from _changed(f"host {host.get('name')}", host)
                    for route in host.get("routes", ()):
                        yield from _changed(f"route {route.get('name')}", route)


def _changed(place: str, owner: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, typed in owner.get("typed_per_filter_config", {}).items():
        kind = _type(typed)
        if kind.endswith(("ExtProcPerRoute", "RBACPerRoute", "LuaPerRoute", "FilterConfig")):
            yield place, f"changes {name} for itself"
