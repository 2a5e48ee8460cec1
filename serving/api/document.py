"""The OpenAPI document, with the attributes that a filter may ask for on this site."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from serving.filters import Kind, schema_of
from serving.schemas import (
    AT_MOST,
    FILTER,
    MAX_K,
    BatchRequest,
    Events,
    ItemIds,
    Items,
    RecommendRequest,
    SimilarRequest,
)


def openapi_of(app: FastAPI, kinds: Callable[[], Mapping[str, Kind]]) -> Callable[[], Any]:
    """Makes the OpenAPI document of an application, request schemas and keys included.

    Args:
        kinds: of the attributes that items have now.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, definitions = models_json_schema(
        [
            (schema, "validation")
            for schema in (RecommendRequest, BatchRequest, SimilarRequest, Events, Items, ItemIds)
        ],
        ref_template="#/components/schemas/{model}",
    )
    components = document["components"]
    components["schemas"].update(definitions["$defs"])
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]

    def with_attributes() -> dict[str, Any]:
        attributes = kinds()
        of_site = {FILTER: schema_of(attributes), AT_MOST: _at_most(attributes)}
        schemas = {**components["schemas"], **of_site}
        return {**document, "components": {**components, "schemas": schemas}}

    return with_attributes


def _at_most(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": MAX_K}
    return {
        "type": "object",
        "title": "At most",
        "properties": dict.fromkeys(sorted(kinds), number),
        "additionalProperties": False,
        "maxProperties": 10,
    }
