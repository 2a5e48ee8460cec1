"""Things that go wrong, each with the alert that must notice."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import torch

from deploy.demo.crowd import Crowd
from feature_repo.store import current_generation, make_current
from sasrec.model.recommender import Recommender
from serving.registry import ModelStore

SLOW_SECONDS = 0.3  # far beyond the objective of 128 ms
FASHION = 4.0  # log-odds


class Incident(StrEnum):
    """What can go wrong."""

    DRIFT = "drift"
    LATENCY = "latency"
    BAD_MODEL = "bad-model"
    STALE_FEATURES = "stale-features"


ALERT = {
    Incident.DRIFT: "RecoDrift",
    Incident.LATENCY: "RecoLatencyBudgetBurn",
    Incident.BAD_MODEL: "RecoChampionWorse",
    Incident.STALE_FEATURES: "RecoFeaturesStale",
}


@asynccontextmanager
async def happening(incident: Incident, home: Path, crowd: Crowd) -> AsyncIterator[None]:
    """`incident` while inside; repaired on exit, as the runbook says."""
    during = {
        Incident.DRIFT: _drift(crowd),
        Incident.LATENCY: _rush(crowd),
        Incident.BAD_MODEL: _bad_model(home),
        Incident.STALE_FEATURES: _stale_features(home),
    }[incident]
    async with during:
        yield


@asynccontextmanager
async def _drift(crowd: Crowd) -> AsyncIterator[None]:
    """Everyone wants what nobody wanted before."""
    appeal = crowd.storefront.catalogue.appeal
    crowd.shift = FASHION * (appeal < sorted(appeal)[len(appeal) // 5])
    try:
        yield
    finally:
        crowd.shift = 0 * crowd.shift


@asynccontextmanager
async def _rush(crowd: Crowd) -> AsyncIterator[None]:
    """More callers than the machine can answer in time."""
    stop = asyncio.Event()
    rush = asyncio.create_task(crowd.rush(slow=SLOW_SECONDS, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await rush


@asynccontextmanager
async def _bad_model(home: Path) -> AsyncIterator[None]:
    """A version whose items were mixed up becomes the champion: fast, healthy and wrong."""
    store = ModelStore(home / "models")
    champion = store.path(store.aliases().champion or "")
    with tempfile.TemporaryDirectory() as scratch:
        broken = shutil.copytree(champion, Path(scratch) / "broken", copy_function=shutil.copyfile)
        for name in ("golden.json", "manifest.json"):
            (broken / name).unlink(missing_ok=True)
        recommender = Recommender.load(champion)
        weight = recommender.model.item_embedding.weight
        with torch.no_grad():
            mixed = 1 + torch.randperm(len(weight) - 1, generator=torch.Generator().manual_seed(0))
            weight[1:] = weight[mixed]
        recommender.save(broken)
        version = store.register(broken, metadata={"incident": Incident.BAD_MODEL})
    store.promote(version, why="demo: an incident")
    try:
        yield
    finally:
        store.rollback(why="demo: the incident ends")


@asynccontextmanager
async def _stale_features(home: Path) -> AsyncIterator[None]:
    """Features as they would be had nobody published for three days."""
    repository = home / "feature_store"
    fresh = current_generation(repository)
    before = datetime.now(UTC) - timedelta(days=3)
    stale = fresh.with_name(before.strftime("%Y%m%dT%H%M%S%f"))
    shutil.copytree(fresh, stale)
    make_current(repository, stale)
    try:
        yield
    finally:
        make_current(repository, fresh)
