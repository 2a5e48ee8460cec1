"""What every group of settings is: typed, checked, frozen."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Settings that are checked when they are made and never changed after."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
