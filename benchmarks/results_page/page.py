"""The whole page, in the order of its subjects."""

from benchmarks.results_page import files
from benchmarks.results_page.subjects import (
    alive,
    evaluation,
    features,
    freshness,
    kernels,
    month,
    pipeline,
    quality,
    serving,
    training,
)

SUBJECTS = (
    quality.next_item,
    quality.losses,
    quality.among_100,
    quality.cuts_in_time,
    quality.validation,
    freshness.refits,
    freshness.warm_starts,
    freshness.item_features,
    freshness.weights,
    freshness.live,
    alive.trend,
    alive.trend_cost,
    alive.launches,
    pipeline.whole_runs,
    pipeline.stage_times,
    pipeline.at_scale,
    training.epochs,
    training.large_catalogue,
    training.on_a_gpu,
    training.two_hosts,
    kernels.attention_cpu,
    kernels.attention_gpu,
    kernels.catalogue_loss,
    kernels.compiled,
    serving.load,
    serving.overload,
    serving.event_to_list,
    serving.runtimes,
    serving.index,
    serving.faults,
    month.lived,
    serving.small_costs,
    features.build,
    features.histories,
    evaluation.metrics,
    evaluation.coverage,
    evaluation.exploring,
    evaluation.search,
)
HEAD = """# Results

Made from `benchmarks/results/*.json` by `python -m benchmarks.results_page`, and held to them by a
test; change neither by hand. *Ratio* is how many times as good or as fast this project is as the
peer, so below 1 the peer is better. *Threads* are torch's in one process. A *commit* with a + had
changes in the model or the kernels that were committed later.
"""


def markdown() -> str:
    """The content of docs/results.md."""
    subjects = [subject() for subject in SUBJECTS]
    sections = [HEAD.strip(), *(subject.markdown() for subject in subjects if subject.rows)]
    if without_table := files.unread():
        names = "\n".join(f"- `benchmarks/results/{name}.json`" for name in without_table)
        sections.append(f"## Records without a table\n\n{names}")
    return "\n\n".join(sections) + "\n"
