"""What each reader sees. Grafana's JSON and the console page are both made from this.

`$policy` and `$model_version` are regular expressions that Grafana's variables fill in.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "percentunit", "s", "reqps"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are called: `{{label}}` is replaced."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One chart. `description` says how to read it."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    headline: bool = False
    """Also on the console page."""


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels for one reader."""

    uid: str
    title: str
    rows: dict[str, tuple[Panel, ...]]
    variables: tuple[str, ...] = ()

    @property
    def panels(self) -> list[Panel]:
        """All panels, in order."""
        return [panel for row in self.rows.values() for panel in row]


def interval(metric: str, selector: str, legend: str) -> tuple[Query, ...]:
    """A ratio with the ends of its interval."""
    stem = metric.removesuffix("_ratio")
    return (
        Query(f"{metric}{selector}", legend),
        Query(f"{stem}_low_ratio{selector}", f"{legend}, low"),
        Query(f"{stem}_high_ratio{selector}", f"{legend}, high"),
    )


VERSION = '{model_version=~"$model_version"}'
VERSION_AT_10 = '{model_version=~"$model_version",k="10"}'
POLICY = '{policy=~"$policy"}'

SERVICE = Board(
    uid="reco-service",
    title="Recommender: service",
    rows={
        "Requests": (
            Panel(
                "Requests",
                "Answers per second by route and status. 503 means busy: add workers.",
                "reqps",
                (Query("route_status:reco_requests:rate5m", "{{route}} {{status}}"),),
                headline=True,
            ),
            Panel(
                "Latency of recommendations",
                "Inside the application; the objective is 99 % within 128 ms.",
                "s",
                (
                    Query(
                        'route:reco_request_duration_seconds:p50_5m{route="recommend"}', "median"
                    ),
                    Query('route:reco_request_duration_seconds:p99_5m{route="recommend"}', "p99"),
                ),
                headline=True,
            ),
            Panel(
                "In flight",
                "Under way over all workers; the autoscaler follows it.",
                "short",
                (Query("sum(reco_requests_in_flight)", "in flight"),),
            ),
            Panel(
                "Error budget",
                "Shares of failed and slow recommendations; budgets are 0.1 % and 1 %.",
                "percentunit",
                (
                    Query("job:reco_recommend_errors:ratio_rate1h", "failed, 1 h"),
                    Query("job:reco_recommend_slow:ratio_rate1h", "slow, 1 h"),
                    Query("job:reco_recommend_errors:ratio_rate6h", "failed, 6 h"),
                    Query("job:reco_recommend_slow:ratio_rate6h", "slow, 6 h"),
                ),
            ),
            Panel(
                "Degraded lists",
                "Served without the model or without the history, instead of an error.",
                "percentunit",
                (
                    Query("job:reco_degraded:ratio_rate5m", "all"),
                    Query(
                        "sum by (reason) (rate(reco_degraded_total[5m])) / ignoring (reason) "
                        "group_left () sum(rate(reco_recommendations_total[5m]))",
                        "{{reason}}",
                    ),
                ),
                headline=True,
            ),
        ),
        "Rules": (
            Panel(
                "Lists that rules had a part in",
                "By kind of rule, and slots that a pin has filled, per second.",
                "reqps",
                (
                    Query("sum by (rule) (rate(reco_ruled_lists_total[5m]))", "{{rule}}"),
                    Query("sum(rate(reco_placed_impressions_total[5m]))", "slots placed"),
                ),
            ),
            Panel(
                "Refused rules",
                "Files of site rules that a worker could not read: the ones before hold on.",
                "short",
                (Query("sum(increase(reco_rules_refused_total[5m]))", "refused"),),
            ),
        ),
        "Events": (
            Panel(
                "Events",
                "Acknowledged as durable, and of them those of a clock that is ahead, per second.",
                "reqps",
                (
                    Query("sum(rate(reco_events_total[5m]))", "events"),
                    Query("sum(rate(reco_events_ahead_total[5m]))", "clock ahead"),
                    Query("sum(rate(reco_item_updates_total[5m]))", "items changed"),
                ),
            ),
            Panel(
                "Event delay (p99)",
                "Until an event is on disk, and until the next recommendation sees it.",
                "s",
                (
                    Query("job:reco_event_durable_seconds:p99_5m", "durable"),
                    Query("job:reco_event_visible_seconds:p99_5m", "visible"),
                ),
                headline=True,
            ),
            Panel(
                "Failed writes",
                "The event log refusing records (clients retry), the online history being away.",
                "short",
                (
                    Query("sum(increase(reco_event_log_failures_total[5m]))", "event log"),
                    Query("sum(increase(reco_history_write_failures_total[5m]))", "history"),
                ),
            ),
        ),
        "Monitoring": (
            Panel(
                "Targets",
                "1 while Prometheus gets an answer.",
                "short",
                (Query('up{job=~"sasrec|sasrec-quality"}', "{{job}}"),),
            ),
            Panel(
                "Quality exporter",
                "Time of one update, and the age of its figures.",
                "s",
                (
                    Query("reco_quality_update_seconds", "update"),
                    Query("time() - reco_quality_updated_timestamp_seconds", "age"),
                    Query("reco_quality_window_seconds", "window"),
                ),
            ),
        ),
    },
)

RECOMMENDATIONS = Board(
    uid="reco-quality",
    title="Recommender: recommendations",
    variables=("policy", "model_version"),
    rows={
        "What users do": (
            Panel(
                "Next item found (hit@10)",
                "Share of lists that held what their user did next, with 95 % intervals.",
                "percentunit",
                interval("reco_delayed_hit_ratio", VERSION_AT_10, "{{role}}"),
                headline=True,
            ),
            Panel(
                "NDCG of the next item",
                "As hit@k, but the first slot counts most.",
                "short",
                (Query(f"reco_delayed_ndcg_ratio{VERSION}", "{{role}} @{{k}}"),),
            ),
            Panel(
                "Click-through by version",
                "Clicks per served slot, with 95 % intervals.",
                "percentunit",
                interval("reco_version_click_through_ratio", VERSION, "{{role}}"),
                headline=True,
            ),
            Panel(
                "Click-through by position",
                "By policy; lower slots are looked at less.",
                "percentunit",
                (Query(f"reco_click_through_ratio{POLICY}", "{{policy}} {{position}}"),),
            ),
            Panel(
                "Challenger minus champion",
                "Difference in click-through: an interval without 0 is a decision.",
                "percentunit",
                interval("reco_challenger_click_through_difference_ratio", "", "difference"),
            ),
        ),
        "Against serving at random": (
            Panel(
                "What uniform serving would earn",
                "Inverse-propensity click-through with its 95 % interval, and self-normalised.",
                "percentunit",
                (
                    *interval("reco_ips_click_through_ratio", POLICY, "{{policy}}"),
                    Query(f"reco_snips_click_through_ratio{POLICY}", "{{policy}}, SNIPS"),
                ),
            ),
            Panel(
                "Lift over uniform",
                "Click-through over that of uniform serving; 1 is no better than chance.",
                "short",
                (Query(f"policy:reco_lift_over_uniform:ratio{POLICY}", "{{policy}}"),),
                headline=True,
            ),
            Panel(
                "Effective sample size",
                "Slots that those estimates are worth; below 1,000 do not decide on them.",
                "short",
                (Query(f"reco_ips_effective_slots{POLICY}", "{{policy}}"),),
            ),
            Panel(
                "Propensity weights",
                "Mean weight and its standard error: 1 if the logged propensities are right.",
                "short",
                (
                    Query(f"reco_propensity_weight_mean_ratio{POLICY}", "{{policy}}"),
                    Query(f"reco_propensity_weight_mean_error_ratio{POLICY}", "{{policy}}, error"),
                ),
            ),
            Panel(
                "Exploration",
                "Share of slots drawn uniformly, and what was configured.",
                "percentunit",
                (
                    Query(f"policy:reco_explored:ratio_rate1h{POLICY}", "{{policy}}"),
                    Query(
                        f"max by (policy) (reco_exploration_configured_ratio{POLICY})",
                        "{{policy}}, configured",
                    ),
                ),
                headline=True,
            ),
            Panel(
                "Propensity of top slots (median)",
                "How sure the policy was of what it put first.",
                "short",
                (
                    Query(
                        "histogram_quantile(0.5, sum by (policy, le) "
                        f"(rate(reco_propensity_bucket{POLICY}[5m])))",
                        "{{policy}}",
                    ),
                    Query("sum(increase(reco_propensity_invalid_total[5m]))", "outside (0, 1]"),
                ),
            ),
        ),
        "The lists": (
            Panel(
                "Coverage and concentration",
                "Share of the catalogue shown; Gini of exposure: 0 all items equal.",
                "percentunit",
                (
                    Query("reco_catalogue_coverage_ratio", "coverage"),
                    Query("reco_exposure_gini_ratio", "Gini"),
                ),
                headline=True,
            ),
            Panel(
                "Novelty",
                "Mean self-information of shown items in bits: higher is less known.",
                "short",
                (Query("reco_novelty_bits", "novelty"),),
            ),
            Panel(
                "Score entropy",
                "1: the model is indifferent between what it shows; 0: sure of one item.",
                "short",
                (Query("reco_score_entropy_ratio", "entropy"),),
            ),
            Panel(
                "Cold lists",
                "Made without a known item in the history: popularity answers.",
                "percentunit",
                (Query("job:reco_cold:ratio_rate5m", "cold"),),
            ),
            Panel(
                "History length (median)",
                "Events that a list was made from.",
                "short",
                (
                    Query(
                        "histogram_quantile(0.5, sum by (le) "
                        "(rate(reco_history_events_bucket[5m])))",
                        "events",
                    ),
                ),
            ),
        ),
    },
)

MODELS = Board(
    uid="reco-models",
    title="Recommender: models and pipeline",
    variables=("model_version",),
    rows={
        "Versions": (
            Panel(
                "Who serves",
                "Versions with a role, and lists of each in the window.",
                "short",
                (
                    Query(f"reco_lists{VERSION}", "{{role}} {{model_version}}"),
                    Query(f"reco_joined_lists{VERSION}", "{{role}}, joined"),
                    Query(f"reco_model_info{VERSION}", "{{role}} {{model_version}}, present"),
                ),
            ),
            Panel(
                "Age",
                "Since the champion was registered, features were published, a run deployed.",
                "s",
                (
                    Query(
                        'time() - reco_model_registered_timestamp_seconds{role="champion"}',
                        "champion",
                    ),
                    Query("time() - reco_features_published_timestamp_seconds", "features"),
                    Query(
                        "time() - max(reco_pipeline_last_run_timestamp_seconds"
                        '{outcome="deployed"})',
                        "deployment",
                    ),
                ),
                headline=True,
            ),
            Panel(
                "Alias generation",
                "What the aliases say, and what the slowest worker serves.",
                "short",
                (
                    Query("reco_alias_generation", "aliases"),
                    Query("min(reco_champion_generation)", "slowest worker"),
                    Query("sum(increase(reco_swap_failures_total[15m]))", "refused"),
                ),
            ),
            Panel(
                "Pipeline stages",
                "Duration by stage of the last run with each outcome.",
                "s",
                (Query("reco_pipeline_stage_seconds", "{{outcome}} {{stage}}"),),
            ),
        ),
        "Data": (
            Panel(
                "Skewed users",
                "Sampled users whose history online is not the one that training reads.",
                "percentunit",
                (Query("reco_pipeline_skewed_users_ratio", "{{outcome}}"),),
            ),
            Panel(
                "Drift (PSI)",
                "Against the champion's training data: 0.1 look, 0.25 act.",
                "short",
                (Query("reco_drift_psi", "{{distribution}}"),),
                headline=True,
            ),
            Panel(
                "Newest event",
                "Age of the newest event in the published features: is new data coming in?",
                "s",
                (Query("time() - reco_features_newest_event_timestamp_seconds", "age"),),
            ),
            Panel(
                "Unknown items",
                "Share of events on items that the champion has never seen.",
                "percentunit",
                (Query("reco_unknown_item_ratio", "unknown"),),
            ),
            Panel(
                "Calibration",
                "Expected against observed interactions per slot, by decile of the expectation.",
                "percentunit",
                (
                    Query("reco_calibration_expected_ratio", "expected {{decile}}"),
                    Query("reco_calibration_observed_ratio", "observed {{decile}}"),
                ),
            ),
            Panel(
                "Calibration error",
                "Expected calibration error, and observed over expected interactions.",
                "short",
                (
                    Query("reco_calibration_error_ratio", "ECE"),
                    Query("job:reco_calibration:observed_over_expected", "observed / expected"),
                ),
                headline=True,
            ),
        ),
    },
)

BOARDS = (SERVICE, RECOMMENDATIONS, MODELS)


def with_any_variable(expr: str) -> str:
    """The expression with every variable matching all values."""
    return expr.replace("$policy", ".*").replace("$model_version", ".*")
