"""Attention and the catalogue loss beside torch, FlashAttention and FlexAttention."""

from typing import Any

from benchmarks.results_page.files import Source, read, source
from benchmarks.results_page.table import Row, Subject, number, times

SHAPES = {
    "A": "MovieLens-like users",
    "A, 2 heads": "MovieLens-like users, two heads",
    "B": "shop-like users",
    "C": "long users",
}
PEERS = {
    "padded": "padded SDPA",
    "padded, dropout": "padded SDPA",
    "padded with a boolean mask, dropout": "padded SDPA, boolean mask",
    "FA2 varlen": "FlashAttention-2 varlen",
    "FA2 varlen, dropout": "FlashAttention-2 varlen",
    "FlexAttention": "FlexAttention, its mask at hand",
    "FlexAttention, mask rebuilt": "FlexAttention, mask rebuilt for the batch",
}
PASSES = "forward + backward"


def attention_cpu() -> Subject:
    """On two cores."""
    return Subject(
        "Attention on a CPU",
        "Forward + backward in ms, float32, two cores, medians of seven interleaved calls; padded "
        "SDPA gets its padded "
        "inputs for nothing.",
        _attention("attention-cpu", "wall_ms"),
        notes="Without dropout torch's fused CPU kernel skips what lies above the diagonal, so on "
        "MovieLens-like users "
        "packing gains nothing. The relative biases have no peer.",
    )


def attention_gpu() -> Subject:
    """On an H200."""
    return Subject(
        "Attention on a GPU",
        "Forward + backward in ms, bfloat16, 1,024 users of up to 200 items, one head of 64; GPU "
        "time by replay of a "
        "CUDA graph with inputs beyond L2.",
        _attention("attention-nvidia-h200", "gpu_ms"),
        notes="Shop-like and long users, float32 and the losses were not measured on this GPU.",
    )


def catalogue_loss() -> Subject:
    """The loss that never holds (events × items)."""
    record = read("cross_entropy-cpu")
    rows = []
    for row in record["sizes"]:
        size = row["size"]
        drawn = f", {size['negatives']:,} sampled" if size["negatives"] else ""
        own, peer = row["streamed"], row["plain"]
        rows.append(
            Row(
                f"ms, {size['tokens']:,} tokens × {size['items']:,} items{drawn} (memory beyond "
                "the inputs, MB)",
                _loss(own),
                source(record),
                f"plain torch {_loss(peer)}",
                times(row["times as fast"]),
            )
        )
    return Subject(
        "The loss over a large catalogue",
        "Forward + backward, float32, two cores, in turns with the plain formula.",
        rows,
    )


def compiled() -> Subject:
    """Every line of tiles.json, compiled ahead of time."""
    record = read("attention-aot")
    rows = record["rows"]
    made = Source("none", "`python -m kernels.aot`", f"Triton {record['triton']}")
    return Subject(
        "Kernels compiled ahead of time",
        "For sm_80, sm_90 and sm_100, all dtypes, head dimensions, with and without dropout and "
        "bias.",
        [
            Row("kernels compiled", number(len(rows)), made),
            Row(
                "most bytes of stack (spilled registers)",
                number(max(r["stack_bytes"] for r in rows)),
                made,
            ),
            Row("most registers", number(max(r["registers"] for r in rows)), made),
            Row(
                "most shared memory, KiB", number(max(r["shared_bytes"] for r in rows) / 1024), made
            ),
        ],
    )


def _attention(name: str, clock: str) -> list[Row]:
    record = read(name)
    rows = []
    for shape, case in record["shapes"].items():
        for result in case["dtypes"].values():
            compared = {r["baseline"]: r for r in result["ratios"]}
            for baseline, ratio in compared.items():
                dropout = ", dropout" if baseline.endswith("dropout") else ", no dropout"
                rows.append(
                    Row(
                        f"ms, {SHAPES[shape]}{dropout}",
                        _ms(result, ratio["ours"], clock),
                        source(record),
                        f"{PEERS[baseline]} {_ms(result, baseline, clock)}",
                        times(ratio[PASSES]),
                    )
                )
            rows += [
                Row(
                    f"ms, {SHAPES[shape]}, relative bias, "
                    f"{'' if 'dropout' in own else 'no '}dropout",
                    _ms(result, own, clock),
                    source(record),
                )
                for own in ("ours, bias", "ours, dropout and bias")
            ]
    return rows


def _ms(result: dict[str, Any], name: str, clock: str) -> str:
    return number(result["times"][name][PASSES][clock]["median"])


def _loss(side: dict[str, Any]) -> str:
    return f"{number(side['ms']['median'])} ({number(side['peak_bytes'] / 1e6)})"
