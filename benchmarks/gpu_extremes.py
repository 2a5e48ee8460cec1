"""Two sizes that do not fit by themselves: a million items, and histories of 8,192 events.

    python -m benchmarks.gpu_extremes
    python -m benchmarks.gpu_extremes --share 0.001 --device cpu     # to try the command

Training as the `default` preset does it, on random events: tokens per second of the second epoch
(the first compiles and warms up), and the most memory that the device held. Results go to
benchmarks/results/extremes-DEVICE.json.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.our_epochs import simulated
from benchmarks.provenance import provenance
from sasrec.presets import preset
from sasrec.training.loop import train

RESULTS = Path(__file__).parent / "results"
EPOCHS = 2
# Items, events and events of a user.
SIZES = {
    "a million items": (1_000_000, 20_000_000, 50),
    "histories of 8,192": (100_000, 40_000_000, 8_192),
}


def measured(items: int, events: int, length: int, device: torch.device) -> dict[str, Any]:
    """One training of two epochs."""
    length = min(length, events)
    data = simulated(items, events // length * length, length=length)
    chosen = preset(
        "default", max_length=length, batch_tokens=max(65_536, length), epochs=EPOCHS,
        validate_every=EPOCHS, patience=EPOCHS,
    )  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        history = train(
            data.train, data.validation, data.vocabulary, chosen.model, chosen.train, Path(folder)
        ).history
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {
        "items": items,
        "events": events,
        "events_of_a_user": length,
        "tokens_per_second": round(history[-1]["tokens_per_second"]),
        "peak_device_gib": peak and round(peak, 2),
    }


def main() -> None:
    """Measure both and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--share", type=float, default=1.0, help="of items and events")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    report: dict[str, Any] = {}
    for name, (items, events, length) in SIZES.items():
        share = arguments.share
        report[name] = measured(int(items * share), int(events * share), length, device)
        print(name, json.dumps(report[name]), flush=True)
    if device.type == "cuda" and arguments.share == 1:
        name = re.sub("[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())
        path = RESULTS / f"extremes-{name}.json"
        path.write_text(json.dumps(report | {"provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
