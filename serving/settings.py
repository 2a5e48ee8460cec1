"""Everything that can be set about serving, read once from `SASREC_*` environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_repo.event_times import RETENTION
from sasrec.errors import SettingsError, first_problem

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseSettings):
    """Settings of one serving process; each field `x` is the variable `SASREC_X`."""

    model_config = SettingsConfigDict(env_prefix="SASREC_", frozen=True, extra="ignore")

    home: Path = Field(
        default=Path("var/simulated"), description="The site: models, features, event log."
    )
    model_version: str | None = Field(
        default=None, description="Serve this version whatever the aliases say: one on trial."
    )
    history: str | None = Field(
        default=None, description="redis:// address of the online history; else a file of the site."
    )
    event_log: Path | None = Field(
        default=None, description="Where events are logged; else a folder of the site."
    )
    history_length: int = Field(
        default=200, ge=1, le=1000, description="Newest positive events that are encoded."
    )
    retention_days: float = Field(
        default=RETENTION.days,
        gt=0,
        le=36500,
        description="Older events are refused; events.retention_days of the pipeline.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Server processes.")

    temperature: float = Field(
        default=0.0, ge=0, description="Of the Plackett-Luce ranking, in score units; 0 is greedy."
    )
    epsilon: Share = Field(default=0.02, description="Share of slots drawn uniformly.")
    new_item_share: Share = Field(
        default=0.05,
        description="Share of slots for items that hardly anybody has seen; epsilon comes first.",
    )
    gold_share: Share = Field(
        default=0.01, description="Share of users always served uniformly: the gold set."
    )
    challenger_share: Share = Field(
        default=0.1, description="Share of users served by the challenger."
    )
    candidates: int = Field(
        default=200, ge=100, le=10_000, description="Best items that slots draw from."
    )

    rules: Path | None = Field(
        default=None,
        description="What all lists keep to: filter, at_most, diversity, boosts and pins, as a "
        "request has them, in JSON; else rules.json of the site. Workers follow it.",
    )

    index_above: int = Field(
        default=200_000, ge=1_000, description="Items above which an index finds the best of them."
    )

    deadline_seconds: float = Field(
        default=0.2, gt=0, description="Past it, a request gets recent popularity, degraded."
    )

    api_keys: Path | None = Field(
        default=None, description="Key file; else api_keys.json of the site."
    )
    insecure: bool = Field(default=False, description="No keys; only this machine is answered.")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Largest request body.")
    max_pending: int = Field(
        default=32, ge=1, description="Requests under way per process before 503."
    )

    @property
    def feature_store(self) -> Path:
        """The published feature store of the site."""
        return self.home / "feature_store"

    @property
    def history_location(self) -> str | Path:
        """Where the online history is."""
        return self.history or self.feature_store / "history.db"

    @property
    def api_keys_file(self) -> Path:
        """Where the API keys are."""
        return self.api_keys or self.home / "api_keys.json"

    @property
    def rules_file(self) -> Path:
        """Where the site's rules are, if it has any."""
        return self.rules or self.home / "rules.json"

    @property
    def event_log_location(self) -> Path:
        """Where the event log is."""
        return self.event_log or self.home / "event_log"


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ValueError: a variable is out of range; the one-line message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        field, message = first_problem(error)
        variable = f"SASREC_{field.replace('.', '_').upper()}"
        raise SettingsError(f"{variable}: {message}") from None
