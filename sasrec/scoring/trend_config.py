"""What can be chosen of a trend."""

from pydantic import Field, field_validator

from sasrec.section import Section

DAY = 86_400.0  # seconds


class TrendConfig(Section):
    """Whether and over which times recent counts of items join a model's score."""

    enabled: bool = Field(
        default=True,
        description="add what everybody meets lately to the score, with weights that validation "
        "fits; zero where that does not help",
    )
    half_lives: tuple[float, ...] = Field(
        default=(1, 7, 30, 365),
        min_length=1,
        max_length=6,
        description="days after which an event counts half, one count each",
    )

    @field_validator("half_lives")
    @classmethod
    def _ascending(cls, days: tuple[float, ...]) -> tuple[float, ...]:
        if min(days) < 1 / 24 or max(days) > 36_500 or list(days) != sorted(set(days)):
            raise ValueError("are days in ascending order, from an hour (.042) to a century")
        return days

    @property
    def seconds(self) -> tuple[float, ...]:
        """The half-lives, as counts take them."""
        return tuple(days * DAY for days in self.half_lives)
