"""Speed of training on a CPU, on a GPU and on two hosts."""

from benchmarks.results_page.files import read, source
from benchmarks.results_page.table import Row, Subject, number, share, times


def epochs() -> Subject:
    """An epoch beside RecTools, and the way to one quality."""
    record = read("training-epochs")
    rows = []
    for loss in ("BCE", "softmax"):
        for suffix, processes in (("", "one process"), (", a process a thread", "two processes")):
            own, peer = record[f"ours {loss}{suffix}"], record[f"RecTools {loss}"]
            rows.append(
                Row(
                    f"seconds an epoch, {loss}, {processes} (peak memory, GiB)",
                    _epoch(own["seconds_per_epoch"], own["peak_gib"]),
                    source(record),
                    f"RecTools {_epoch(peer['seconds_per_epoch'], peer['peak_gib'])}",
                    times(record[f"speed-up {loss}{suffix}"]),
                )
            )
    race = read("training-to-quality")
    own, peer = race["ours"], race["RecTools"]
    more = "" if race["RecTools reached it"] else "> "
    rows.append(
        Row(
            "seconds to validation NDCG@10 .17 (reached)",
            f"{number(sum(own['seconds']))} ({share(own['ndcg@10'][-1])})",
            source(race),
            f"RecTools {more}{number(sum(peer['seconds']))} ({share(peer['ndcg@10'][-1])})",
            f"{more}{times(race['speed-up'])}",
        )
    )
    return Subject(
        "Training on two CPU cores",
        "MovieLens-1M beside RecTools 0.19. Epochs: the same data and architecture (d = 50, 2 "
        "blocks, 1 head, "
        "length 200), in turns, the median of three. To a quality: `default` against RecTools' "
        "full softmax, training alone.",
        rows,
        plot="speed.svg",
        notes="Most of the last ratio is the model and its settings, not the implementation: with "
        "RecTools' "
        "architecture, rate and loss this project learns as slowly an epoch.",
    )


def large_catalogue() -> Subject:
    """A sampled softmax over a million items."""
    record = read("training-catalogue")
    rows = [
        Row(
            f"tokens/s, {int(size.split()[0]):,} items (peak memory, GiB)",
            f"{number(record[size]['tokens_per_second'][-1])} ({number(record[size]['peak_gib'])})",
            source(record),
        )
        for size in ("10000 items", "1000000 items")
    ]
    rows.append(Row("rate at 1 M items / at 10,000", times(record["ratio"]), source(record)))
    return Subject(
        "Training over a large catalogue",
        "One million simulated events, sampled softmax, steps of 16,384 events, two CPU cores.",
        rows,
    )


def on_a_gpu() -> Subject:
    """One update of the whole model beside the same model padded."""
    record = read("training-nvidia-h100-80gb-hbm3")
    rows = []
    for name, update in record["updates"].items():
        for mode, label in (("eager", "launched one by one"), ("graph", "one CUDA graph")):
            own, peer = update["ours"], update["padded"]
            rows.append(
                Row(
                    f"million tokens/s, {name}, {label} (peak memory, MB)",
                    f"{_millions(own[mode])} ({own['peak_mb']:,})",
                    source(record),
                    f"padded {_millions(peer[mode])} ({peer['peak_mb']:,})",
                    times(update[f"times as fast, {mode}"]),
                )
            )
    whole = record["whole training, first"]
    rows.append(
        Row(
            f"seconds of training to the best epoch ({whole['best_epoch']}), validations aside",
            f"{number(whole['training_seconds_to_best'])} (validation NDCG@10 "
            f"{share(whole['validation_ndcg@10'])})",
            source(record),
        )
    )
    return Subject(
        "Training on a GPU",
        "One update of the `default` preset (forward, loss, backward, clipping, AdamW, averaging) "
        "beside the same model "
        "padded, with torch's `scaled_dot_product_attention` (the bias as its mask) and "
        "cross-entropy.",
        rows,
        notes=record["provenance"]["note"] + ".",
    )


def two_hosts() -> Subject:
    """Losses of two hosts against those of one process."""
    record = read("two_hosts")
    key = "largest relative difference of a loss to one process"
    rows = [
        Row(f"largest relative difference of a loss, {name}", f"{case[key]:.1e}", source(record))
        for name, case in record["two hosts"].items()
    ]
    return Subject(
        "Training on two hosts",
        "Each loss of 30 epochs against that of one process, without dropout; what was lost was "
        "killed while it trained.",
        rows,
    )


def _epoch(seconds: float, gib: float) -> str:
    return f"{number(seconds)} ({number(gib, 2)})"


def _millions(rates: dict[str, float]) -> str:
    return number(rates["tokens_per_second"] / 1e6)
