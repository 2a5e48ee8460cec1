"""Deploying a version: a real server answers on it first, only then the alias moves."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from serving.registry import Aliases, open_registry
from serving.release.processes import ServerFailed, running_server
from serving.security import create_keys


class DeploymentError(RuntimeError):
    """The candidate did not pass; the aliases are as they were. One line."""


@dataclass(frozen=True)
class DeploymentReport:
    """What a candidate answered while on trial.

    Attributes:
        seconds_to_ready: from starting the process to its first ready answer.
        known_user, unknown_user, bare_list: the answers of `/v1/recommend`.
        metric_families: how many `reco_` families `/metrics` has.
    """

    version: str
    seconds_to_ready: float
    known_user: dict[str, Any]
    unknown_user: dict[str, Any]
    bare_list: dict[str, Any]
    metric_families: int

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def smoke_test(
    home: Path,
    version: str,
    *,
    known_user: str,
    recent_items: Sequence[str],
    log: Path | None = None,
) -> DeploymentReport:
    """Serve `version` from a real `bentoml serve` process, ask it, and stop it.

    Args:
        home: the site.
        known_user: a user with a history in the site's feature store.
        recent_items: items of the catalogue, for a request without a user.
        log: where the server's output goes; thrown away when absent.

    Raises:
        DeploymentError: it did not start, or an answer is wrong.
    """
    with tempfile.TemporaryDirectory() as scratch:
        started = time.monotonic()
        keys = create_keys(Path(scratch) / "api_keys.json")
        headers = {"Authorization": f"Bearer {keys.admin[0]}"}
        try:
            with running_server(
                home,
                log=log or Path(scratch) / "server.log",
                settings={
                    "SASREC_MODEL_VERSION": version,
                    # A trial leaves no trace: not in the log, not in a live server's metrics.
                    "SASREC_API_KEYS": str(Path(scratch) / "api_keys.json"),
                    "SASREC_EVENT_LOG": str(Path(scratch) / "event_log"),
                    "BENTOML_HOME": str(Path(scratch) / "bentoml"),
                },
            ) as url:
                ready = time.monotonic() - started
                with httpx.Client(
                    base_url=url, headers=headers, timeout=10, trust_env=False
                ) as client:
                    return DeploymentReport(
                        version=version,
                        seconds_to_ready=round(ready, 2),
                        known_user=_ask(client, version, user_id=known_user),
                        unknown_user=_ask(client, version, user_id="nobody-has-this-id"),
                        bare_list=_ask(client, version, recent_items=list(recent_items)),
                        metric_families=_count_metrics(client),
                    )
        except (ServerFailed, httpx.HTTPError) as error:
            raise DeploymentError(f"version {version}: {error}") from None


def deploy(
    home: Path,
    version: str,
    *,
    known_user: str,
    recent_items: Sequence[str],
    why: str = "deploy",
    log: Path | None = None,
) -> tuple[DeploymentReport, Aliases]:
    """Smoke-test a version and then make it the champion.

    Raises:
        DeploymentError: the candidate failed; the previous champion still serves.
        StaleAliases: somebody else changed the aliases during the trial.
    """
    store = open_registry(home)
    generation = store.aliases().generation
    report = smoke_test(home, version, known_user=known_user, recent_items=recent_items, log=log)
    return report, store.promote(version, why=why, expected_generation=generation)


def _ask(client: httpx.Client, version: str, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/recommend", json={"k": 10, **request})
    if response.status_code != 200:
        raise DeploymentError(
            f"version {version}: /v1/recommend answered {response.status_code} to {sorted(request)}"
        )
    answer = response.json()
    if answer["model_version"] != version or answer["degraded"] or not answer["items"]:
        raise DeploymentError(
            f"version {version}: /v1/recommend served version {answer['model_version']}, "
            f"{len(answer['items'])} items, degraded={answer['degraded']}"
        )
    return answer


def _count_metrics(client: httpx.Client) -> int:
    text = client.get("/metrics").raise_for_status().text
    return sum(line.startswith("# TYPE reco_") for line in text.splitlines())
