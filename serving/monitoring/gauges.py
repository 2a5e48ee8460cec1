"""The metrics of the quality exporter. Labels are from fixed sets: roles, policies, buckets.

A model version is a label only while it holds a role, so there are at most three at once.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric

from serving.monitoring.quality import Figure


@dataclass(frozen=True)
class Gauge:
    """Help text and label names of one family."""

    help: str
    labels: tuple[str, ...] = ()


VERSION = ("model_version", "role")

GAUGES = {
    # Versions
    "reco_model_info": Gauge("1 for each version that holds a role.", VERSION),
    "reco_model_registered_timestamp_seconds": Gauge("When the version was registered.", VERSION),
    "reco_alias_generation": Gauge("Generation of the aliases that workers should serve."),
    # What was next, by version
    "reco_lists": Gauge("Lists in the window.", VERSION),
    "reco_joined_lists": Gauge("Lists in the window whose user's next item is known.", VERSION),
    "reco_delayed_hit_ratio": Gauge(
        "Joined lists with the user's next item in their first k.", (*VERSION, "k")
    ),
    "reco_delayed_hit_low_ratio": Gauge("Lower end of its 95 % interval.", (*VERSION, "k")),
    "reco_delayed_hit_high_ratio": Gauge("Upper end of its 95 % interval.", (*VERSION, "k")),
    "reco_delayed_ndcg_ratio": Gauge("NDCG@k of the user's next item.", (*VERSION, "k")),
    # Clicks
    "reco_version_click_through_ratio": Gauge("Clicks per served slot.", VERSION),
    "reco_version_click_through_low_ratio": Gauge("Lower end of its 95 % interval.", VERSION),
    "reco_version_click_through_high_ratio": Gauge("Upper end of its 95 % interval.", VERSION),
    "reco_click_through_ratio": Gauge("Clicks per served slot.", ("policy", "position")),
    "reco_policy_click_through_ratio": Gauge("Clicks per served slot.", ("policy",)),
    "reco_challenger_click_through_difference_ratio": Gauge(
        "Click-through of the challenger minus that of the champion."
    ),
    "reco_challenger_click_through_difference_low_ratio": Gauge("Lower end of its 95 % interval."),
    "reco_challenger_click_through_difference_high_ratio": Gauge("Upper end of its 95 % interval."),
    # Propensities
    "reco_ips_click_through_ratio": Gauge(
        "Click-through that uniform serving would have, by inverse propensity.", ("policy",)
    ),
    "reco_ips_click_through_low_ratio": Gauge("Lower end of its 95 % interval.", ("policy",)),
    "reco_ips_click_through_high_ratio": Gauge("Upper end of its 95 % interval.", ("policy",)),
    "reco_snips_click_through_ratio": Gauge("The same, self-normalised.", ("policy",)),
    "reco_ips_effective_slots": Gauge("Effective sample size of that estimate.", ("policy",)),
    "reco_propensity_weight_mean_ratio": Gauge(
        "Mean inverse-propensity weight: 1 in expectation if propensities are right.", ("policy",)
    ),
    "reco_propensity_weight_mean_error_ratio": Gauge("Its standard error.", ("policy",)),
    # Lists
    "reco_catalogue_coverage_ratio": Gauge("Share of the catalogue shown in the window."),
    "reco_exposure_gini_ratio": Gauge("Inequality of exposure: 0 all items equal, 1 one item."),
    "reco_novelty_bits": Gauge("Mean self-information of the shown items."),
    "reco_score_entropy_ratio": Gauge("Entropy of the shown scores over its maximum."),
    # Calibration, by decile of the expectation
    "reco_calibration_expected_ratio": Gauge("Expected interactions per slot.", ("decile",)),
    "reco_calibration_observed_ratio": Gauge("Observed interactions per slot.", ("decile",)),
    "reco_calibration_error_ratio": Gauge("Expected calibration error."),
    # Data
    "reco_drift_psi": Gauge(
        "Population stability index against the champion's training data.", ("distribution",)
    ),
    "reco_unknown_item_ratio": Gauge("Events on items that the champion does not know."),
    "reco_features_published_timestamp_seconds": Gauge("When features were last published."),
    "reco_features_newest_event_timestamp_seconds": Gauge("Newest event in those features."),
    # The exporter itself
    "reco_quality_window_seconds": Gauge("Length of the window of all these figures."),
    "reco_quality_updated_timestamp_seconds": Gauge("When these figures were computed."),
    "reco_quality_update_seconds": Gauge("How long computing them took."),
}


class Snapshot:
    """The values of one moment, each of a family of `GAUGES`."""

    def __init__(self) -> None:
        self._samples: defaultdict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)

    def set(self, name: str, value: float, **labels: str) -> None:
        """One sample; raises KeyError for a family or a label that is not declared."""
        values = tuple(labels[label] for label in GAUGES[name].labels)
        self._samples[name].append((values, float(value)))

    def set_interval(self, name: str, figure: Figure, **labels: str) -> None:
        """`name`, and its ends as `<name>_low` and `<name>_high` before the unit."""
        stem = name.removesuffix("_ratio")
        self.set(name, figure.value, **labels)
        self.set(f"{stem}_low_ratio", figure.low, **labels)
        self.set(f"{stem}_high_ratio", figure.high, **labels)

    def families(self) -> Iterator[Metric]:
        """For the exposition; a family without a sample is left out."""
        for name, samples in self._samples.items():
            family = GaugeMetricFamily(name, GAUGES[name].help, labels=GAUGES[name].labels)
            for values, value in samples:
                family.add_metric(values, value)
            yield family
