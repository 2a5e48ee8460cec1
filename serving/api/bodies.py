"""Bodies of requests: read by pydantic alone, and documented as FastAPI would."""

from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from serving.api.errors import Refusal
from serving.schemas import Event, EventBatch


async def parse(request: Request, schema: TypeAdapter[Any]) -> Any:
    """The JSON body as `schema` has it.

    Pydantic's own parser bounds nesting, refuses bad UTF-8, and is faster than going through dicts;
    called here and not as a dependency, whose machinery costs more than the parsing.
    """
    try:
        return schema.validate_json(await request.body())
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        where, first = _meant(errors)
        field = ".".join(map(str, where)) or None
        raise Refusal(422, first["type"], field, first["msg"]) from None


def _meant(errors: list[Any]) -> tuple[tuple[int | str, ...], Any]:
    """The first error, and its path: of a batch, where it holds `events`, else of one event."""
    one, batch = Event.__name__, EventBatch.__name__
    if errors[0]["loc"][:1] != (one,):
        return errors[0]["loc"], errors[0]
    is_batch = not any(e["loc"] == (batch, "events") and e["type"] == "missing" for e in errors)
    kind = batch if is_batch else one
    first = next((e for e in errors if e["loc"][:1] == (kind,)), errors[0])
    return first["loc"][1:], first


def request_body(name: str) -> dict[str, Any]:
    """The OpenAPI request body of a schema that FastAPI does not parse itself."""
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }
