"""Bodies of requests: read by pydantic alone, and documented as FastAPI would."""

from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from serving.api.errors import Refusal


async def parse(request: Request, schema: TypeAdapter[Any]) -> Any:
    """The JSON body as `schema` has it.

    Pydantic's own parser bounds nesting, refuses bad UTF-8, and is faster than going through dicts;
    called here and not as a dependency, whose machinery costs more than the parsing.
    """
    try:
        return schema.validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Refusal(422, first["type"], ".".join(map(str, first["loc"])) or None) from None


def request_body(name: str) -> dict[str, Any]:
    """The OpenAPI request body of a schema that FastAPI does not parse itself."""
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }
