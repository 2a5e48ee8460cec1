"""The typed configuration of one pipeline run, checked before anything runs."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from feature_repo.event_times import RETENTION
from sasrec.data.repeats import Repeats
from sasrec.data.roles import Roles
from sasrec.data.splits import SplitKind
from sasrec.errors import SettingsError, first_problem
from sasrec.gates import DEFAULT_GATES, GateConfig
from sasrec.model.config import ModelConfig
from sasrec.overrides import assigned, checked, keys_of
from sasrec.presets import AUTO, named
from sasrec.scoring.trend_config import TrendConfig
from sasrec.training.config import TrainConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where interactions come from."""

    dataset: str | None = Field(
        default=None,
        description="imported into the site: simulated, ml-100k, ... or a path; "
        "without it the site's own data and what its service logged",
    )
    data_dir: Path | None = Field(
        default=None, description="folder that already holds the raw files"
    )
    columns: dict[str, str] = Field(default={}, description="our column name -> the source's")
    seed: int = Field(default=0, ge=0, description="seed of the simulated storefront")
    as_of: AwareDatetime | None = Field(
        default=None,
        description="use only what happened before: 2026-11-01T00:00:00Z; a late run's day",
    )
    feature_columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="columns of the items that become features, [category, price, 'title:words']; "
        "by default those that group items; model.feature_buckets sizes their table",
    )


class SplitConfig(_Section):
    """How time is cut into training, validation and test."""

    kind: SplitKind = Field(default="global-time", description="global-time or leave-one-out")
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5, description="global-time only")
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5, description="global-time only")


class EvaluationConfig(_Section):
    """How models are judged, and then serve."""

    repeats: Repeats | None = Field(
        default=None,
        description="whether items that a user had before may be recommended and count: exclude or "
        "allow; by default allow where most targets are such items",
    )


class EventsConfig(_Section):
    """What a site's events mean."""

    roles: dict[str, float | str] = Field(
        default={},
        description="event type -> weight in the loss, negative or ignore; "
        "events.roles.purchase=3; one not named is positive with weight 1",
    )
    attribution_hours: float = Field(
        default=24, gt=0, description="from an impression to the events that reward it"
    )
    retention_days: float = Field(
        default=RETENTION.days,
        gt=0,
        le=36500,
        description="older events are neither taken in nor trained on; SASREC_RETENTION_DAYS of "
        "the service says the same there",
    )

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, roles: dict[str, float | str]) -> dict[str, float | str]:
        Roles.parse(roles)
        return roles


class RefitConfig(_Section):
    """What is done to a promoted model before it ships."""

    enabled: bool = Field(
        default=True,
        description="train the promoted recipe on everything until now and ship that; false ships "
        "the evaluated model",
    )
    how: Literal["scratch", "continue"] = Field(
        default="scratch", description="from scratch, or on from the evaluated weights (continue)"
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="of the refit; by default what validation chose, when continuing the share "
        "of it that the new events are of all",
    )
    minimum_overlap: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="mean share of the evaluated model's top 10 that a refit must keep, on the "
        "newest users",
    )
    maximum_overlap: float = Field(
        default=1.0, ge=0, le=1, description="and the most that it may keep"
    )
    max_score_ms: float = Field(
        default=50, gt=0, description="median milliseconds in which a refit must rank everything"
    )
    min_comparison_users: int = Field(
        default=1000,
        ge=1,
        description="users whose next event a champion has not seen, to compare it as it serves "
        "where its recipe cannot be trained today",
    )


class RefreshConfig(_Section):
    """A quick run between nights, which continues from the champion."""

    enabled: bool = Field(default=False, description="as --refresh")
    replay_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="of the users without a new event, how many are learned from again",
    )
    epochs: int = Field(default=5, ge=1, description="upper bound; validation chooses")


class AutoConfig(_Section):
    """`--preset auto`: the run's data choose the preset."""

    enabled: bool = Field(default=False, description="until a stage that sees the data has chosen")
    kept: tuple[str, ...] = Field(
        default=(), description="settings that were given by hand, which stay"
    )


class KeepConfig(_Section):
    """How much a site keeps of what its runs made."""

    runs: int = Field(
        default=7,
        ge=0,
        description="runs before this one whose copies of the data and models stay to be looked "
        "at; of older ones the report, the summary and the logs stay",
    )
    versions: int = Field(
        default=5, ge=0, description="newest versions without a role that stay in the model store"
    )


class RunConfig(_Section):
    """Everything that decides the result of a run."""

    data: DataConfig = DataConfig()
    events: EventsConfig = EventsConfig()
    split: SplitConfig = SplitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    auto: AutoConfig = AutoConfig()
    model: ModelConfig
    train: TrainConfig
    trend: TrendConfig = TrendConfig()
    gates: GateConfig
    refit: RefitConfig = RefitConfig()
    refresh: RefreshConfig = RefreshConfig()
    keep: KeepConfig = KeepConfig()
    moment: AwareDatetime | None = Field(
        default=None, description="when the run happens, filled in by `start_run`"
    )

    @property
    def names_as_of(self) -> bool:
        """Whether `data.as_of` was asked for; else the run filled in its own moment."""
        return self.data.as_of not in (None, self.moment)

    @model_validator(mode="after")
    def _features_have_a_table(self) -> "RunConfig":
        if self.data.feature_columns and not self.model.feature_buckets:
            raise ValueError(
                "data.feature_columns needs a table: set model.feature_buckets, say to 1024"
            )
        return self

    @property
    def site(self) -> str:
        """The name of the data's home under `var/`: the data set's name, or the path's stem.

        Delta Lake takes no brackets and the like in a path.
        """
        name = Path(self.data.dataset).stem if self.data.dataset else "site"
        return re.sub(r"[^\w .()'+-]", "_", name)

    @classmethod
    def parse(cls, text: str) -> "RunConfig":
        """Read what `model_dump_json` wrote.

        Raises:
            SettingsError: it is not that; one line names the field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SettingsError(f"config: {': '.join(first_problem(error))}") from None


def build_config(
    preset: str = "default",
    overrides: Iterable[str] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    gates: Path = DEFAULT_GATES,
) -> RunConfig:
    """A preset, then whole sections, then `section.field=value` overrides.

    Raises:
        SettingsError: an unknown preset or key (the nearest is named), or a value out of bounds.
    """
    values: dict[str, Any] = {
        "data": {},
        "events": {},
        "split": {},
        "evaluation": {},
        **named("default" if preset == AUTO else preset).model_dump(),
        "trend": {},
        "gates": GateConfig.load(gates).model_dump(),
        "refit": {},
        "refresh": {},
    }
    for section, fields in (sections or {}).items():
        values[section].update(fields)
    given = parsed_overrides(overrides)
    if preset == AUTO:
        values["auto"] = {"enabled": True, "kept": tuple(k for k in given if of_preset(k))}
    return checked(RunConfig, assigned(values, given, SETTINGS))


def parsed_overrides(overrides: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """`section.field=value` by key, the values read as YAML.

    Raises:
        SettingsError: one is not of that form.
    """
    given = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise SettingsError(f"{option} '{override}' is not of the form section.field=value")
        given[key.strip()] = _parsed(text, f"{option} '{override}'")
    return given


def of_preset(key: str) -> bool:
    """Whether a setting is one that presets have."""
    return key.startswith(("model.", "train."))


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
        raise SettingsError(f"{where}: {problem}") from None


def describe_settings() -> str:
    """One line per setting, with its default and meaning."""
    config = build_config()
    lines = []
    for key in SETTINGS:
        section, field = key.split(".")
        default = getattr(getattr(config, section), field)
        info = RunConfig.model_fields[section].annotation.model_fields[field]  # type: ignore[union-attr]
        lines.append(f"{key} = {json.dumps(default, default=str)}  {info.description}")
    return "\n".join(lines)


_SECTIONS = ("data", "events", "split", "evaluation", "model", "train", "trend")
SETTINGS = keys_of(RunConfig, (*_SECTIONS, "refit", "refresh"))
"""All that `--set` can change; gates have their own file."""
