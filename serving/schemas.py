"""What requests and responses look like. Unknown fields are refused."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    RootModel,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from feature_repo.event_times import happened_at
from serving.filters import MAX_NAME, Filter, FilterError, parse_filter

MAX_K = 100
MAX_BATCH = 500

UserId = Annotated[str, Field(min_length=1, max_length=256)]
ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


def _whole(value: Any) -> Any:
    """78.0 as 78: an integer to JSON Schema, and to languages with one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


K = Annotated[int, Field(strict=True, ge=1, le=MAX_K), BeforeValidator(_whole)]
Category = Annotated[str, Field(min_length=1, max_length=256)]
Excluded = Annotated[list[ItemId], Field(max_length=10_000)]
Until = Annotated[
    AwareDatetime | None,
    Field(strict=True, description="When it is over, in ISO 8601 with an offset; never if absent."),
]
FILTER, AT_MOST = "Filter", "AtMost"
"""Schemas of the document that name a site's own attributes: `serving.api.document` has them."""


def _filter(value: Any) -> Filter:
    try:
        return parse_filter(value)
    except FilterError as error:
        problem = InitErrorDetails(
            type=PydanticCustomError("filter", "{reason}", {"reason": error.reason}),
            loc=error.path,
            input=None,
        )
        raise ValidationError.from_exception_data(FILTER, [problem]) from None


def _of_document(name: str) -> WithJsonSchema:
    return WithJsonSchema({"allOf": [{"$ref": f"#/components/schemas/{name}"}]})


ItemFilter = Annotated[Filter, PlainValidator(_filter), _of_document(FILTER)]


class BoostedItems(_Message):
    """Items whose scores are raised or lowered."""

    filter: ItemFilter
    add: Annotated[float, Field(strict=True, ge=-1000, le=1000)] = Field(
        0.0, description="Added to the score, in its units."
    )
    times: Annotated[float, Field(strict=True, ge=1e-6, le=1e6)] = Field(
        1.0,
        description="Times exp(score), which is what the model takes an item's chance to be "
        "proportional to: log(times) is added to the score.",
    )
    until: Until = None


class PinnedItem(_Message):
    """An item that has a slot of its own, where it may be shown at all."""

    item_id: ItemId
    position: Annotated[int, Field(strict=True, ge=0, lt=MAX_K), BeforeValidator(_whole)] = Field(
        0, description="0 is the top."
    )
    until: Until = None


class RuleFields(_Message):
    """What lists keep to: of a request, or of a site (the file that SASREC_RULES names)."""

    filter: ItemFilter | None = Field(None, description="Only items that pass it.")
    at_most: (
        Annotated[
            dict[
                Annotated[str, Field(min_length=1, max_length=MAX_NAME)],
                Annotated[int, Field(strict=True, ge=1, le=MAX_K), BeforeValidator(_whole)],
            ],
            Field(max_length=10),
            _of_document(AT_MOST),
        ]
        | None
    ) = Field(None, description="How many items of a list may share a value of an attribute.")
    diversity: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        None,
        description="What likeness to an item above costs, as a share of the range of the "
        "candidates' scores (maximal marginal relevance); 0 for nothing.",
    )
    boosts: Annotated[list[BoostedItems], Field(max_length=20)] = []
    pins: Annotated[list[PinnedItem], Field(max_length=20)] = []

    @property
    def has_rules(self) -> bool:
        """Whether any is given."""
        return not self.model_fields_set.isdisjoint(RuleFields.model_fields)


class RecommendRequest(RuleFields):
    """Who asks, and for what. A user id, recent items, or both; with neither, what is popular."""

    user_id: UserId | None = Field(None, description="Known or new; absent for an anonymous list.")
    k: K = 10
    recent_items: Annotated[list[ItemId], Field(max_length=1000)] = Field(
        [], description="What the caller saw the user do last, oldest first."
    )
    exclude: Excluded = Field([], description="Items not to show.")
    category: Category | None = Field(None, description="Only items of this category.")
    allow_repeats: bool | None = Field(
        None,
        strict=True,
        description="Also show items of the user's history; by default as the model was judged.",
    )
    request_id: Token | None = Field(None, description="Generated when absent.")


class RecommendedItem(_Message):
    """One slot of the answer."""

    item_id: str
    score: float | None = Field(description="The model's; absent for an item it did not score.")
    p_interact: float | None = Field(description="Calibrated P(interacted | served).")
    position: int = Field(description="0 is the top.")
    propensity: float = Field(description="P(this item in this slot | the slots above).")
    rule: str | None = Field(
        None, description="What put the item there; absent where it was drawn."
    )


class RecommendResponse(_Message):
    """The slate, and what is needed to judge it later."""

    request_id: str
    model_version: str
    policy: str
    degraded: str | None = Field(None, description="Why this is not the model's answer, if not.")
    items: list[RecommendedItem]


class BatchRequest(_Message):
    """Lists for many users in one call."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH)]


class BatchResponse(_Message):
    """An answer to each request, in their order."""

    answers: list[RecommendResponse]


class SimilarRequest(_Message):
    """What is next to an item."""

    item_id: ItemId
    k: K = 10
    exclude: Excluded = Field([], description="Items not to show.")
    category: Category | None = Field(None, description="Only items of this category.")
    filter: ItemFilter | None = Field(None, description="Only items that pass it.")


class SimilarItem(_Message):
    """An item and how near it is."""

    item_id: str
    title: str
    category: str | None
    similarity: float = Field(description="Cosine of the two embeddings, in [-1, 1].")


class SimilarResponse(_Message):
    """The nearest items, nearest first."""

    model_version: str
    items: list[SimilarItem]


class Event(_Message):
    """Something a user did with an item."""

    event_id: Token = Field(description="Unique; sending an event again changes nothing.")
    user_id: UserId
    item_id: ItemId
    event_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "interaction"
    request_id: Token | None = Field(None, description="The recommendation that led to it.")
    timestamp: AwareDatetime | None = Field(
        None,
        strict=True,
        description="When, in ISO 8601 with an offset; the arrival when absent, or when it is more "
        "than 5 minutes ahead.",
    )

    def record(self, *, received_at: int) -> dict[str, Any]:
        """As `serving.events.writer` has it; `received_at` in microseconds."""
        at = received_at
        if self.timestamp is not None:
            at = happened_at(round(self.timestamp.timestamp() * 1e6), received_at)
        return {
            "type": "event",
            "event_id": self.event_id,
            "request_id": self.request_id,
            "user_id": self.user_id,
            "item_id": self.item_id,
            "event_type": self.event_type,
            "timestamp": at,
            "received_at": received_at,
        }


class EventBatch(_Message):
    """Events that become durable together."""

    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]


class Events(RootModel[Event | EventBatch]):
    """One event, or a batch of them."""

    def batch(self) -> list[Event]:
        """The events, however they were sent."""
        return self.root.events if isinstance(self.root, EventBatch) else [self.root]


class EventsAccepted(_Message):
    """Every event of the request is durable."""

    accepted: int


def _attribute(value: Any) -> Any:
    """A text, a truth value or a number; one error for all of them, so that it names the field."""
    if isinstance(value, str) and len(value) <= 1024:
        return value
    if isinstance(value, int | float) and -(2**53) <= value <= 2**53:
        return value
    raise PydanticCustomError("attribute_value", "not a short text, a truth value or a number")


Attribute = Annotated[Any, PlainValidator(_attribute)]
# Delta Lake tells no column from one of another case, so names are in one case.
RESERVED = ["item_id", "title", "category", "created_at", "available", "written", "batch"]


def _not_reserved(name: str) -> str:
    if name in RESERVED:
        raise PydanticCustomError("attribute_name", "a field of its own")
    return name


ATTRIBUTE_NAME = r"^[a-z_][a-z0-9_]{0,63}$"
AttributeName = Annotated[str, Field(pattern=ATTRIBUTE_NAME), AfterValidator(_not_reserved)]
# As the document has them: pydantic would allow any other name beside these.
Attributes = Annotated[
    dict[AttributeName, Attribute],
    Field(max_length=64),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 64,
            "propertyNames": {"pattern": ATTRIBUTE_NAME, "not": {"enum": RESERVED}},
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": 1024},
                    {"type": "boolean"},
                    {"type": "number", "minimum": -(2**53), "maximum": 2**53},
                ]
            },
        }
    ),
]


class ItemUpdate(_Message):
    """An item as the shop has it now; what is left out is unknown, whatever was said before."""

    item_id: ItemId
    title: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    category: Category | None = None
    attributes: Attributes = Field(
        {}, description="Anything else; several values of one are separated by |."
    )
    available: bool = Field(True, strict=True, description="False: never shown from now on.")
    created_at: AwareDatetime | None = Field(
        None, strict=True, description="In ISO 8601 with an offset; the first update when absent."
    )

    def record(self, *, now: int, update_id: str) -> dict[str, Any]:
        """As `feature_repo.event_codec` has it; `now` in microseconds."""
        created_at = self.created_at
        return {
            "type": "item",
            "update_id": update_id,
            "item_id": self.item_id,
            "title": self.title,
            "category": self.category,
            "created_at": None if created_at is None else round(created_at.timestamp() * 1e6),
            "available": self.available,
            "attributes": self.attributes,
            "deleted": False,
            "timestamp": now,
        }


class ItemUpdates(_Message):
    """Items that become durable together."""

    items: Annotated[list[ItemUpdate], Field(min_length=1, max_length=1000)]


class Items(RootModel[ItemUpdate | ItemUpdates]):
    """One item, or a batch of them: the schema of the document.

    Bodies are read as the one that they are meant to be, so that an error names its field.
    """


class ItemIds(_Message):
    """Items to take out of every list."""

    item_ids: Annotated[list[ItemId], Field(min_length=1, max_length=1000)]

    def records(self, *, now: int, update_id: str) -> list[dict[str, Any]]:
        """As `feature_repo.event_codec` has them; `now` in microseconds."""
        nothing: dict[str, Any] = {
            "title": None,
            "category": None,
            "created_at": None,
            "attributes": {},
        }
        return [
            {
                "type": "item",
                "update_id": update_id,
                "item_id": item_id,
                **nothing,
                "available": False,
                "deleted": True,
                "timestamp": now,
            }
            for item_id in self.item_ids
        ]


class ItemsAccepted(_Message):
    """Every change of the request is durable."""

    accepted: int


class ItemInfo(_Message):
    """An item as people know it."""

    item_id: str
    title: str
    category: str | None


class ItemList(_Message):
    """Items found."""

    items: list[ItemInfo]


class UserHistoryItem(_Message):
    """One event of a user."""

    item_id: str
    title: str
    timestamp: int = Field(description="Microseconds since the epoch.")


class ServingStatus(_Message):
    """What a worker serves, and how much it has served since it started."""

    champion: str
    challenger: str | None
    generation: int
    index_recall: float | None
    policy: str
    gold_share: float
    challenger_share: float
    recommendations: int
    degraded: int
    example_users: list[str]
    negative_events: list[str] = Field(description="Types of events that say no to an item.")
    attributes: dict[str, str] = Field(
        description="Of the items, as filters may ask for them: text, number, truth or time."
    )


class Problem(_Message):
    """Why a request was refused. Never repeats what was sent."""

    error: str
    field: str | None = Field(None, description="Its path: events.3.event_id.")
    reason: str | None = Field(None, description="What is expected there.")
