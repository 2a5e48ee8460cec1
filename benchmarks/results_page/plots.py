"""The page's plots as SVG.

Text stays text and carries no date, so a plot is the same bytes wherever matplotlib is of one
version; as that is not so everywhere, a plot names the digest of the data it was drawn from and a
test compares that.
"""

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.published import BEST_SASREC
from benchmarks.results_page.files import read
from benchmarks.results_page.subjects.kernels import PASSES
from benchmarks.results_page.subjects.quality import DATASETS, best_first
from benchmarks.results_page.subjects.serving import SERVERS, SIZES, latency

BASELINES = ("popularity", "recent popularity", "bigram Markov")
OWN, OTHER, LIGHT = "#2a7de1", "#7a8290", "#b9c0cc"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "results",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Data = dict[str, Any]


def svg(name: str) -> str:
    """The plot of that file name."""
    data, draw = PLOTS[name]
    values = data()
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        draw(figure, values)
        file = io.StringIO()
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Source": digest(name)}
        )
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def digest(name: str) -> str:
    """Of the data that a plot shows."""
    text = json.dumps(PLOTS[name][0](), sort_keys=True)
    return "data sha256 " + hashlib.sha256(text.encode()).hexdigest()


def _quality() -> Data:
    return {
        DATASETS[dataset]: {
            "rows": {
                name: read(f"quality-{dataset}")[name]["test"]["ndcg@10"]["mean"]
                for name in best_first(dataset)
                if name != "recent popularity"
            },
            "presets": [n for n in best_first(dataset) if n not in BASELINES],
            "published": BEST_SASREC[dataset]["ndcg@10"],
        }
        for dataset in DATASETS
    }


def _draw_quality(figure: Figure, data: Data) -> None:
    figure.set_size_inches(9, 3.2)
    for axes, (title, panel) in zip(figure.subplots(1, 2), data.items(), strict=True):
        rows = dict(reversed(panel["rows"].items()))
        colours = [OWN if name in panel["presets"] else LIGHT for name in rows]
        bars = axes.barh(list(rows), list(rows.values()), color=colours)
        axes.bar_label(bars, [f"{v:.4f}".lstrip("0") for v in rows.values()], padding=3)
        axes.axvline(panel["published"], color="#b3261e", linewidth=1.2, linestyle="--")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("test NDCG@10; dashed: best published SASRec", fontsize=9)
        axes.set_xlim(0, 1.25 * max(*rows.values(), panel["published"]))


def _speed() -> Data:
    epochs = read("training-epochs")
    cpu, gpu = (read(f"attention-{n}")["shapes"] for n in ("cpu", "nvidia-h200"))
    load = read("serving-throughput-100000")["history_50"]["summary"]["ratios"]
    updates = read("training-nvidia-h100-80gb-hbm3")["updates"]
    ratios = {
        "epoch, BCE / RecTools (2 cores)": epochs["speed-up BCE"],
        "epoch, softmax / RecTools (2 cores)": epochs["speed-up softmax"],
        "update, 4 k tokens, bfloat16 / padded (H100)": updates["bfloat16, 3,969 tokens"][
            "times as fast, graph"
        ],
        "update, 65 k tokens, bfloat16 / padded (H100)": updates["bfloat16, 65,457 tokens"][
            "times as fast, graph"
        ],
        "attention, dropout / padded SDPA (2 cores)": _attention(
            cpu["A"]["dtypes"]["float32"], "padded, dropout"
        ),
        "attention / padded SDPA (2 cores)": _attention(cpu["A"]["dtypes"]["float32"], "padded"),
        "attention / FlashAttention-2 varlen (H200)": _attention(
            gpu["A"]["dtypes"]["bfloat16"], "FA2 varlen"
        ),
        "attention / FlexAttention (H200)": _attention(
            gpu["A"]["dtypes"]["bfloat16"], "FlexAttention"
        ),
        "requests/s / @bentoml.api (2 cores)": load["requests_to_bentoml_api"]["median"],
        "requests/s / FastAPI, which does less (2 cores)": load["requests_to_fastapi"]["median"],
    }
    return dict(sorted(ratios.items(), key=lambda item: item[1]))


def _attention(result: Data, baseline: str) -> float:
    return float(next(r[PASSES] for r in result["ratios"] if r["baseline"] == baseline))


def _draw_speed(figure: Figure, data: Data) -> None:
    figure.set_size_inches(9, 3.8)
    axes = figure.subplots()
    bars = axes.barh(list(data), list(data.values()), color=OWN)
    axes.bar_label(bars, [f"{v:.2f}" for v in data.values()], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_title("Times as fast as the peer (line: as fast)", fontsize=10, loc="left")


def _latency() -> Data:
    return {
        label: {server: {p: latency(size, server, p) for p in ("p50", "p99")} for server in SERVERS}
        for size, label in SIZES.items()
    }


def _draw_latency(figure: Figure, data: Data) -> None:
    figure.set_size_inches(9, 3)
    for axes, (title, servers) in zip(
        figure.subplots(1, len(data), sharey=True), data.items(), strict=True
    ):
        for place, (server, figures) in enumerate(servers.items()):
            colour = OWN if server == "ours" else OTHER if server == "bentoml_api" else LIGHT
            label = SERVERS[server].replace("`", "")
            axes.bar(
                [place - 0.2, place + 0.2], list(figures.values()), 0.38, color=colour, label=label
            )
            for offset, value in zip((-0.2, 0.2), figures.values(), strict=True):
                axes.text(place + offset, value * 1.08, f"{value:.0f}", ha="center", fontsize=8)
        axes.set_yscale("log")
        axes.margins(y=0.15)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
    first = figure.axes[0]
    first.set_ylabel("p50 and p99, ms, at 70 % load")
    figure.legend(
        *first.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )


PLOTS: dict[str, tuple[Callable[[], Data], Callable[[Figure, Data], None]]] = {
    "quality.svg": (_quality, _draw_quality),
    "speed.svg": (_speed, _draw_speed),
    "latency.svg": (_latency, _draw_latency),
}
