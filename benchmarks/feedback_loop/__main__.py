"""Rounds of serve, log, train and gate at the simulated storefront, for four teams.

    python -m benchmarks.feedback_loop

Every team starts from the same shop and the same first model, and every seed is another shop. A
finished (team, seed) is one result file and is not run again, so the command can be stopped and
repeated. One core needs about ten minutes for all of it.
"""

import argparse
import copy
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.feedback_loop.plot import draw
from benchmarks.feedback_loop.summary import print_table, summarise
from benchmarks.feedback_loop.team import TEAMS, Site, Team, open_site, play_round
from benchmarks.provenance import provenance
from sasrec.data.simulated import Storefront

RESULTS = Path(__file__).parents[1] / "results"
PLOT = Path(__file__).parents[2] / "docs/images/feedback-loop.png"
USERS = 3000
OPENING_DAYS = 40
ROUND_DAYS = 5
# In most sessions there is the list alone: what is met is mostly what was served.
LOOKUPS = 0.2


def open_shop(seed: int, rounds: int) -> Site:
    """The site of one seed; items are launched until the last round's end."""
    shop = Storefront(
        seed=seed, users=USERS, days=OPENING_DAYS + rounds * ROUND_DAYS, lookups=LOOKUPS
    )
    return open_site(shop, OPENING_DAYS, seed)


def play(site: Site, team: Team, seed: int, rounds: int) -> dict[str, Any]:
    """All rounds of one team at its own copy of the site."""
    started = time.process_time()
    site = copy.deepcopy(site)
    played = [play_round(site, team, ROUND_DAYS, 1000 * seed + n) for n in range(rounds)]
    return {
        "team": team.name,
        "seed": seed,
        "rounds": [asdict(one) for one in played],
        "cpu_seconds": round(time.process_time() - started, 1),
        "provenance": provenance(),
    }


def main() -> None:
    """Play what is missing, then summarise and draw all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="shops to play at")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    folder = RESULTS / "feedback_loop"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        files = {team: folder / f"{team.name.replace(', ', '-')}-seed{seed}.json" for team in TEAMS}
        missing = {team: path for team, path in files.items() if not path.exists()}
        if not missing:
            continue
        site = open_shop(seed, arguments.rounds)
        for team, path in missing.items():
            result = play(site, team, seed, arguments.rounds)
            path.write_text(json.dumps(result, indent=1) + "\n")
            console.print(f"seed {seed}, {team.name}: {result['cpu_seconds']} s")
    summary = summarise(folder)
    (RESULTS / "feedback_loop.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(summary, PLOT)
    print_table(summary, console)


if __name__ == "__main__":
    main()
