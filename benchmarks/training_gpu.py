"""Training on one GPU: time to the best validation score, and tokens/s beside padded attention.

    python -m benchmarks.training_gpu --data-dir DATA

MovieLens-1M, leave-one-out, the `default` preset. First the whole training, twice: with kernels to
compile and with them in Triton's cache. Then single updates (forward, loss, backward, clipping,
AdamW, averaging) of real batches by the same model in two forms: ours, packed, with our attention
and our cross-entropy; and padded to the longest, with torch's scaled_dot_product_attention and
torch's cross-entropy over the real tokens. Both run kernel by kernel and as one CUDA graph. Results
go to benchmarks/results/training-DEVICE.json.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import stopwatch
from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from sasrec.data.dataset import SequenceDataset
from sasrec.model.config import ModelConfig
from sasrec.model.sasrec import Attention, SASRec
from sasrec.presets import Preset, preset
from sasrec.training.batches import Batches
from sasrec.training.loop import train
from sasrec.training.objective import Objective
from sasrec.training.update import StepInputs, Update

RESULTS = Path(__file__).parent / "results"
BATCH_TOKENS = (4096, 65536)
STEPS = 20  # between two readings of the clock


class PaddedAttention(Attention):
    """The same layer over (B, L, dim), every user as long as the longest."""

    def forward(self, x: Tensor, cu_seqlens: Tensor, timestamps: Tensor | None) -> Tensor:
        """(B, L, dim) to the same; padding is at the end, so the causal mask hides it."""
        del cu_seqlens, timestamps
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None
        if self.position_bias is not None:
            at = torch.arange(x.shape[1], device=x.device)
            distance = at[:, None] - at
            mask = self.position_bias[:, distance.clamp(min=0)]
            mask = mask.masked_fill(distance < 0, -torch.inf).to(q.dtype)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(attended.transpose(1, 2).flatten(2))


class PaddedSASRec(SASRec):
    """SASRec as it is usually written; reads and returns packed tokens, so that it can be swapped.

    Args:
        lengths: of the sequences of the one batch it will read.
    """

    real: Tensor
    slot: Tensor

    def __init__(self, config: ModelConfig, num_items: int, lengths: Tensor) -> None:
        super().__init__(config, num_items)
        for block in self.blocks:
            block.attention = PaddedAttention(config)
        slots = torch.arange(int(lengths.max())) < lengths[:, None]
        self.register_buffer("real", slots.flatten().nonzero().flatten())
        self.register_buffer("slot", torch.zeros(slots.shape, dtype=torch.int64))
        self.slot[slots] = torch.arange(int(lengths.sum())) + 1

    def forward(
        self,
        items: Tensor,
        cu_seqlens: Tensor,
        timestamps: Tensor | None = None,
        item_matrix: Tensor | None = None,
    ) -> Tensor:
        """(T, dim)."""
        padded = F.pad(items, (1, 0))[self.slot]
        x = F.embedding(padded, self.item_matrix() if item_matrix is None else item_matrix)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[: padded.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, cu_seqlens, timestamps)
        return self.norm(x).flatten(0, 1)[self.real]


class TorchCrossEntropy(Objective):
    """The full softmax with its logits in memory."""

    def losses(
        self, hidden: Tensor, item_matrix: Tensor, targets: Tensor, *_: Tensor | None
    ) -> Tensor:
        """(T,)."""
        return F.cross_entropy(hidden @ item_matrix[1:].T, targets - 1, reduction="none")


def whole_training(data: SequenceDataset, chosen: Preset) -> dict[str, Any]:
    """Wall-clock to the best epoch, from the call, with everything that is done on the way."""
    with tempfile.TemporaryDirectory() as run_dir:
        started = time.perf_counter()
        result = train(
            data.train, data.validation, data.vocabulary, chosen.model, chosen.train, Path(run_dir)
        )
        whole = time.perf_counter() - started
    after = result.history[result.best_epoch :]
    spent = sum(line["seconds"] + line.get("validation_seconds", 0.0) for line in after)
    return {
        "seconds_to_best": whole - spent,
        "seconds_in_all": whole,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "validation_ndcg@10": result.best_ndcg,
        "tokens_per_second": float(np.median([h["tokens_per_second"] for h in result.history])),
    }


def batch_of(data: SequenceDataset, chosen: Preset) -> StepInputs:
    """The first step of the first epoch, on the GPU."""
    batches = Batches(
        data.train,
        max_length=chosen.model.max_length,
        batch_tokens=chosen.train.batch_tokens,
        seed=0,
    )
    # The largest batch would be cut so that an epoch has enough steps; here it shall not.
    batches.budget = chosen.train.batch_tokens
    batch = batches.load(batches.epoch(0)[0])
    weights = torch.full((batch.tokens,), 1 / batch.tokens)
    return StepInputs(
        batch.items.cuda(),
        batch.cu_seqlens.cuda(),
        batch.timestamps.cuda(),
        batch.targets.cuda(),
        weights.cuda(),
        negatives=None,
    )


def updates(chosen: Preset, num_items: int, inputs: StepInputs) -> dict[str, Update]:
    """Ours and the padded one, of the same architecture."""
    counts = torch.ones(num_items + 1, dtype=torch.int64)

    def objective(kind: type[Objective]) -> Objective:
        return kind(chosen.train, counts, cold_items_compete=True, device=torch.device("cuda"))

    lengths = inputs.cu_seqlens.diff().cpu()
    return {
        "ours": Update(SASRec(chosen.model, num_items).cuda(), objective(Objective), chosen.train),
        "padded": Update(
            PaddedSASRec(chosen.model, num_items, lengths).cuda(),
            objective(TorchCrossEntropy),
            chosen.train,
        ),
    }


def step(update: Update, inputs: StepInputs) -> None:
    """One update."""
    update.backward(inputs)
    update.apply(0.005)


def as_graph(run: Callable[[], None]) -> Callable[[], None]:
    """The same as one launch."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def many(run: Callable[[], None]) -> None:
    """Enough of them that the clock is read seldom."""
    for _ in range(STEPS):
        run()


def throughput(data: SequenceDataset, chosen: Preset, repeats: int) -> dict[str, Any]:
    """Tokens per second and memory of an update, in turns."""
    inputs = batch_of(data, chosen)
    tokens = len(inputs.items)
    report: dict[str, Any] = {"tokens": tokens, "users": len(inputs.cu_seqlens) - 1}
    runs: dict[str, Callable[[], None]] = {}
    for name, update in updates(chosen, len(data.vocabulary), inputs).items():
        run = partial(step, update, inputs)
        many(run)
        report[name] = {"peak_bytes": stopwatch.gpu_peak_bytes(run)}
        runs[f"{name}, eager"] = partial(many, run)
        runs[f"{name}, graph"] = partial(many, as_graph(run))
    for name, seconds in stopwatch.in_turns(runs, repeats).items():
        arm, form = name.split(", ")
        rates = [tokens * STEPS / second for second in seconds]
        report[arm][form] = {
            "tokens_per_second": float(np.median(rates)),
            "ms_per_update": stopwatch.summary([second / STEPS for second in seconds]),
        }
    for form in ("eager", "graph"):
        ours, padded = (report[name][form]["tokens_per_second"] for name in ("ours", "padded"))
        report[f"times as fast, {form}"] = ours / padded
    report["share of memory"] = report["ours"]["peak_bytes"] / report["padded"]["peak_bytes"]
    return report


def show(report: dict[str, Any]) -> None:
    """A line for each form."""
    for name in ("ours", "padded"):
        for form in ("eager", "graph"):
            rate = report[name][form]["tokens_per_second"]
            peak = report[name]["peak_bytes"] / 1e6
            print(f"  {name:7} {form:6} {rate:12,.0f} tokens/s {peak:8.0f} MB")


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    data = read("ml-1m", "leave-one-out", arguments.data_dir).sequences
    report: dict[str, Any] = {"provenance": provenance(), "updates": {}}
    for precision in ("float32", "bfloat16"):
        for tokens in BATCH_TOKENS:
            chosen = preset("default", precision=precision, batch_tokens=tokens)
            found = throughput(data, chosen, arguments.repeats)
            report["updates"][f"{precision}, {tokens} tokens"] = found
            print(f"{precision}, {found['tokens']:,} tokens of {found['users']} users")
            show(found)
    report["whole training"] = [whole_training(data, preset("default")) for _ in range(2)]
    for run in report["whole training"]:
        print(
            f"default: validation NDCG@10 {run['validation_ndcg@10']:.4f} at epoch "
            f"{run['best_epoch']} after {run['seconds_to_best']:.1f} s"
        )
    device = re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower()
    path = RESULTS / f"training-{device}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
