"""`gates.yaml` and the verdict: promote, hold, or refuse."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sasrec.errors import DataError, first_problem
from sasrec.evaluation.result import Evaluation
from sasrec.gates.checks import AnyGate, Effect, GateResult

DEFAULT_GATES = Path(__file__).with_name("gates.yaml")


class GateConfig(BaseModel):
    """The gates, in the order in which they are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gates: list[AnyGate] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct_names(self) -> "GateConfig":
        names = [gate.name for gate in self.gates]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"gate names are used twice: {sorted(repeated)}")
        return self

    @classmethod
    def load(cls, path: Path = DEFAULT_GATES) -> "GateConfig":
        """Read and check a gates file.

        Raises:
            DataError: the file, the field and what is wrong with it, on one line.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except (OSError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or "not text"
            raise DataError(f"{path}: cannot be read ({said}); name a gates file") from None
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            field, message = first_problem(error)
            raise DataError(f"{path}: {field or 'the file'}: {message}") from None


@dataclass(frozen=True)
class Verdict:
    """What the gates decided.

    Attributes:
        decision: "promote", "hold" (a gate failed), or "refuse" (not enough evidence).
        summary: the counts, then why the model was stopped, in one line.
        protocol: of the evaluation judged.
        results: one per gate, in the order of the file.
    """

    decision: Effect
    summary: str
    protocol: str
    results: list[GateResult]

    @property
    def counts(self) -> str:
        """How many gates passed, failed, and could not be evaluated, in words."""
        passed, failed, missing = (
            sum(result.passed is sort for result in self.results) for sort in (True, False, None)
        )
        return f"{passed} gates passed, {failed} failed, {missing} not evaluated"

    @property
    def blocking(self) -> list[GateResult]:
        """The gates that stopped the model; none of them when it was promoted."""
        if self.decision == "promote":
            return []
        return [result for result in self.results if result.effect == self.decision]

    def to_markdown(self) -> str:
        """The verdict as a heading, its protocol and a table of gates."""
        rows = [
            f"| {r.gate} | {r.outcome} | {r.threshold} | {r.reason} |".replace("\n", " ")
            for r in self.results
        ]
        return "\n".join(
            [
                f"## {self.decision.capitalize()}",
                f"{self.summary}.",
                "",
                f"{self.protocol}.",
                "",
                "| gate | outcome | threshold | reason |",
                "|---|---|---|---|",
                *rows,
            ]
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Verdict":
        """What `dataclasses.asdict` made of one."""
        results = [GateResult(**result) for result in fields["results"]]
        return cls(**{**fields, "results": results})

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> "Verdict":
        """Read what `save` wrote."""
        return cls.of(json.loads(path.read_text()))


def decide(evaluation: Evaluation, config: GateConfig) -> Verdict:
    """Judge every gate; a failure holds, otherwise missing evidence refuses, otherwise promote."""
    results = [gate.judge(evaluation) for gate in config.gates]
    return summarise(results, str(evaluation.protocol))


def summarise(results: list[GateResult], protocol: str) -> Verdict:
    """The verdict that these results come to."""
    effects = {result.effect for result in results}
    decision: Effect = (
        "hold" if "hold" in effects else "refuse" if "refuse" in effects else "promote"
    )
    verdict = Verdict(decision, "", protocol, results)
    reasons = [f"{result.gate}: {result.reason}" for result in verdict.blocking]
    return replace(verdict, summary="; ".join([verdict.counts, *reasons]))
