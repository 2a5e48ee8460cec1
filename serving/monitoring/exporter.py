"""From one site's event log, models and features to the figures that Prometheus scrapes."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from feature_repo.publish import read_report
from feature_repo.store import published_generation
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.off_policy import calibration as calibration_file
from sasrec.off_policy.calibration import Calibration
from sasrec.scoring.metrics import coverage, gini, novelty
from serving.engine.items import load_items
from serving.metrics import position_bucket
from serving.monitoring import quality
from serving.monitoring.drift import TrainingSnapshot, measure
from serving.monitoring.gauges import Snapshot
from serving.monitoring.log_tail import LogTail
from serving.monitoring.outcomes import ServedList, Window
from serving.registry import open_registry
from serving.settings import Settings

PIPELINE_METRICS = (
    "pipeline_metrics"  # a folder of the site; `components.support.outcome_metrics` writes
)
POLICIES = ("greedy", "plackett_luce", "epsilon_greedy", "epsilon_plackett_luce", "uniform")


@dataclass(frozen=True)
class Version:
    """What the figures need of a registered version."""

    vocabulary: Vocabulary
    popularity: np.ndarray
    training: TrainingSnapshot | None
    calibration: Calibration | None

    @classmethod
    def load(cls, directory: Path) -> "Version":
        """Read a version's files, but not its weights."""
        vocabulary = Vocabulary.load(directory / "vocabulary.json")
        calibrated = (directory / calibration_file.FILE).exists()
        return cls(
            vocabulary,
            load_items(directory, vocabulary).popularity,
            TrainingSnapshot.load(directory),
            Calibration.load(directory) if calibrated else None,
        )


class Exporter(Collector):
    """Figures over a sliding window of a site's event log.

    Args:
        settings: where the site is.
        window_seconds: of lists and events that count.
    """

    def __init__(self, settings: Settings, *, window_seconds: float) -> None:
        self._settings = settings
        self._store = open_registry(settings.home, must_exist=True)
        self.window = Window(length=round(window_seconds * 1e6))
        self._tail = LogTail(settings.event_log_location, window=self.window.length)
        self._versions: dict[str, Version] = {}
        self._figures = Snapshot()

    def collect(self) -> Iterator[Metric]:
        """The figures of the last update, and what pipeline runs left on this site."""
        yield from self._figures.families()
        for path in sorted((self._settings.home / PIPELINE_METRICS).glob("*.prom")):
            yield from text_string_to_metric_families(path.read_text())

    def update(self, *, now: int) -> None:
        """Read what is new in the log and compute everything again.

        Args:
            now: microseconds since the epoch.
        """
        started = time.perf_counter()
        self.window.add(self._tail.read(now=now))
        self.window.forget(now=now)
        figures = Snapshot()
        figures.set("reco_quality_window_seconds", self.window.length / 1e6)
        self._describe_features(figures)
        self._describe_versions(figures)
        lists = list(self.window.lists.values())
        if lists:
            _describe_policies(figures, lists)
            self._describe_champion(figures, lists)
        figures.set("reco_quality_updated_timestamp_seconds", now / 1e6)
        figures.set("reco_quality_update_seconds", time.perf_counter() - started)
        self._figures = figures

    def _version(self, name: str) -> Version:
        if name not in self._versions:
            self._versions[name] = Version.load(self._store.path(name))
        return self._versions[name]

    def _describe_features(self, figures: Snapshot) -> None:
        generation = published_generation(self._settings.feature_store)
        if generation is not None:
            published = datetime.strptime(f"{generation.name}+0000", "%Y%m%dT%H%M%S%f%z")
            newest = datetime.fromisoformat(read_report(generation)["newest_event"])
            figures.set("reco_features_published_timestamp_seconds", published.timestamp())
            figures.set("reco_features_newest_event_timestamp_seconds", newest.timestamp())

    def _describe_versions(self, figures: Snapshot) -> None:
        aliases = self._store.aliases()
        figures.set("reco_alias_generation", aliases.generation)
        served = _group(list(self.window.lists.values()), lambda served: served.model_version)
        clicks = {}
        for role in ("champion", "challenger", "previous"):
            version = getattr(aliases, role)
            if version is None:
                continue
            labels = {"model_version": version, "role": role}
            lists = served.get(version, [])
            figures.set("reco_model_info", 1, **labels)
            registered = self._store.show(version).created_at.timestamp()
            figures.set("reco_model_registered_timestamp_seconds", registered, **labels)
            figures.set("reco_lists", len(lists), **labels)
            joined = sum(served.next_rank is not None for served in lists)
            figures.set("reco_joined_lists", joined, **labels)
            if lists:
                clicks[role] = quality.click_through(lists)
                figures.set_interval("reco_version_click_through_ratio", clicks[role], **labels)
            for k in quality.CUTOFFS:
                if found := quality.next_item(lists, k):
                    hit, ndcg = found
                    figures.set_interval("reco_delayed_hit_ratio", hit, k=str(k), **labels)
                    figures.set("reco_delayed_ndcg_ratio", ndcg.value, k=str(k), **labels)
        if "champion" in clicks and "challenger" in clicks:
            figures.set_interval(
                "reco_challenger_click_through_difference_ratio",
                quality.difference(clicks["challenger"], clicks["champion"]),
            )

    def _describe_champion(self, figures: Snapshot, lists: list[ServedList]) -> None:
        """What needs the champion's catalogue, training data or calibration."""
        champion = self._store.aliases().champion
        if champion is None:
            return
        version = self._version(champion)
        shown = _pad([version.vocabulary.encode(served.item_ids) for served in lists])
        catalogue = len(version.vocabulary)
        figures.set("reco_catalogue_coverage_ratio", coverage(shown, catalogue))
        figures.set("reco_exposure_gini_ratio", gini(shown, catalogue))
        figures.set("reco_novelty_bits", float(np.nanmean(novelty(shown, version.popularity))))
        own = [served for served in lists if served.model_version == champion]
        if own and np.isfinite(entropy := quality.score_entropy(own)):
            figures.set("reco_score_entropy_ratio", entropy)
        if version.training is not None:
            self._describe_drift(figures, version, version.training, own)
        curve = version.calibration
        if own and curve is not None and (found := quality.calibration(own, curve)):
            figures.set("reco_calibration_error_ratio", found.ece)
            deciles = zip(found.predicted, found.observed, strict=True)
            for decile, (expected, observed) in enumerate(deciles, start=1):
                figures.set("reco_calibration_expected_ratio", expected, decile=str(decile))
                figures.set("reco_calibration_observed_ratio", observed, decile=str(decile))

    def _describe_drift(
        self,
        figures: Snapshot,
        version: Version,
        training: TrainingSnapshot,
        lists: list[ServedList],
    ) -> None:
        # A list without its history says nothing about users: `reco_degraded_total` counts it.
        lists = [served for served in lists if not served.degraded]
        scored = [served.scores for served in lists if np.isfinite(served.scores).any()]
        drift = measure(
            training,
            version.vocabulary,
            item_ids=[item_id for _, item_id in self.window.events.values()],
            history_lengths=np.array([served.history_length for served in lists]),
            top_scores=np.array([np.nanmax(scores) for scores in scored]),
        )
        for distribution, psi in drift.psi.items():
            figures.set("reco_drift_psi", psi, distribution=distribution)
        if drift.unknown_items is not None:
            figures.set("reco_unknown_item_ratio", drift.unknown_items)


def _describe_policies(figures: Snapshot, lists: list[ServedList]) -> None:
    for policy, group in _group(lists, lambda served: served.policy).items():
        if policy not in POLICIES:
            continue
        by_position = quality.click_through_by_position(group, position_bucket)
        for position, value in by_position.items():
            figures.set("reco_click_through_ratio", value, policy=policy, position=position)
        clicked = quality.click_through(group).value
        figures.set("reco_policy_click_through_ratio", clicked, policy=policy)
        uniform = quality.uniform_value(group)
        figures.set_interval("reco_ips_click_through_ratio", uniform.ips, policy=policy)
        figures.set("reco_snips_click_through_ratio", uniform.snips.value, policy=policy)
        figures.set("reco_ips_effective_slots", uniform.effective_sample_size, policy=policy)
        mean_weight = uniform.mean_weight
        figures.set("reco_propensity_weight_mean_ratio", mean_weight.value, policy=policy)
        figures.set("reco_propensity_weight_mean_error_ratio", mean_weight.error, policy=policy)


def _group(
    lists: list[ServedList], key: Callable[[ServedList], str]
) -> dict[str, list[ServedList]]:
    groups = defaultdict(list)
    for served in lists:
        if len(served.item_ids):
            groups[key(served)].append(served)
    return groups


def _pad(lists: list[np.ndarray]) -> np.ndarray:
    """Lists of item indices as (n, longest) with `PADDING` at the ends."""
    padded = np.full((len(lists), max(map(len, lists))), PADDING)
    for row, items in enumerate(lists):
        padded[row, : len(items)] = items
    return padded
