"""The API's description (OpenAPI 3.1), made from the list of routes and the classes of their answers."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from ext_proc import __version__
from ext_proc.console.asking import HOURS_MAX, LIMIT_MAX, PURPOSE_MAX
from ext_proc.console.routes import API, PUBLIC, ROUTES

if TYPE_CHECKING:
    from ext_proc.console.routes import Route

_SECURITY: Final = {
    "session": "The console's own session cookie. What changes something also wants `x-csrf-token` and `Origin`.",
    "bearer": "An OIDC access token.",
}
_TOLD: Final[dict[str, dict[str, Any]]] = {
    "answer": {"enum": ["approve", "deny"]},
    "justification": {
        "type": "string",
        "description": "Why, in words, 10 characters at least (or as configured); kept with the record.",
    },
    "channel": {"enum": ["api", "cli"], "default": "api", "description": "What you are, for the record."},
    "purpose": {
        "type": "string",
        "minLength": 1,
        "maxLength": PURPOSE_MAX,
        "description": "Why; kept with the record.",
    },
}
_OPTIONAL: Final = frozenset({"channel"})
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    "hours": {"type": "integer", "minimum": 1, "maximum": HOURS_MAX},
    "since": {"type": "string", "description": "A time; UTC where no zone is named."},
    "until": {"type": "string", "description": "A time; UTC where no zone is named."},
    "decision": {"enum": ["allow", "deny", "none"]},
}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
_WHEN_NOT: Final = {
    "400": "What was asked cannot be meant.",
    "401": "Nobody is signed in, or the token is not valid here.",
    "403": "Your roles, the rules of approval or the missing form token say no.",
    "404": "There is no such thing for you.",
    "409": "It is over: somebody else was first, or the time is.",
    "413": "More than 64 KiB.",
    "415": "Not `application/json`.",
    "422": "Say why.",
    "500": "A bug.",
    "503": "Something that is needed is not to be had; try again.",
}


@cache
def adapter(answer: type) -> TypeAdapter[Any]:
    """How a class is written as JSON."""
    return TypeAdapter(answer)


def json_of(route: Route, answer: object) -> bytes:
    """An answer as the description says."""
    assert route.answer is not None  # noqa: S101 - a route with a view has one
    return adapter(route.answer).dump_json(answer)


@cache
def description() -> dict[str, Any]:
    """The whole document."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        if route.has_api:
            path = re.sub(r"\{(\w+):(?:[^{}]|\{\d+\})+\}", r"{\1}", API + route.path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Affidavit console",
            "version": __version__,
            "description": "Each page of the console as JSON. See each operation for the roles that it is for.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-affidavit",
                    "description": _SECURITY["session"],
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": _SECURITY["bearer"]},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": _for_whom(route),
        "parameters": [*_of_path(route), *_of_query(route)],
        "responses": {"200": _answer(route, schemas), **{status: _error(text) for status, text in _WHEN_NOT.items()}},
        "security": [] if route.audience == PUBLIC else [{"session": []}, {"bearer": []}],
    }
    if route.method == "POST":
        told = {
            "type": "object",
            "properties": {name: _TOLD[name] for name in route.told},
            "required": [name for name in route.told if name not in _OPTIONAL],
        }
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": told}}}
    return made


def _for_whom(route: Route) -> str:
    if isinstance(route.audience, str):
        return (
            "For everybody." if route.audience == PUBLIC else "For everybody with a token; what it shows, it decides."
        )
    return f"For the roles {', '.join(sorted(route.audience))}."


def _of_path(route: Route) -> list[dict[str, Any]]:
    found = re.findall(r"\{(\w+):((?:[^{}]|\{\d+\})+)\}", route.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{form}$"}}
        for name, form in found
    ]


def _of_query(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": _QUERY.get(name, {"type": "string"})} for name in route.query]


def _answer(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.answer is None:
        kind = "text/event-stream" if route.is_part else "application/json"
        return {"description": route.summary, "content": {kind: {"schema": {}}}}
    schema = adapter(route.answer).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[route.answer.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{route.answer.__name__}"}
    return {"description": route.summary, "content": {"application/json": {"schema": reference}}}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
