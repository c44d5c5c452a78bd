"""The console's own API as an OpenAPI 3.1 description, made of the table that the requests are checked by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from webui.desk import COOKIE, Route

PARAMETERS = {
    "name": {"type": "string", "minLength": 1, "maxLength": 100},
    "wire": {"enum": ["steering", "throttle"]},
    "which": {"enum": ["daemon", "system"]},
}


class Error(Struct):
    """One sentence: what is wrong, and what to do."""

    error: str
    must_change: bool = False


def described(routes: Sequence[Route]) -> dict[str, Any]:
    """The document, as JSON has it."""
    kinds = [kind for route in routes for kind in (route.answer, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Error], ref_template="#/components/schemas/{name}")
    named = dict(zip(map(_key, [*kinds, Error]), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "hotlap device console", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                "token": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, named: dict[str, Any]) -> dict[str, Any]:
    content = (
        {"application/json": {"schema": named[_key(route.answer)]}} if route.answer is not None else {"text/plain": {}}
    )
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__,
        "parameters": [*_in_path(route), *_in_query(route)],
        "responses": {
            str(route.status): {"description": "Done", "content": content},
            "default": {
                "description": "Refused, and why",
                "content": {"application/json": {"schema": named[_key(Error)]}},
            },
        },
    }
    if not route.open:
        operation["security"] = [{"session": []} if route.method == "GET" else {"session": [], "token": []}]
    if route.body is not None:
        schema = named[_key(route.body)]
        needed = any(field.required for field in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
    elif route.method == "PUT":
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


def _in_path(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]} for name in names]


def _in_query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, components = msgspec.json.schema_components([route.query])
    fields = components[route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
