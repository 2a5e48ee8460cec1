"""Twenty writers race for the aliases in an S3 bucket: one wins each generation, none is lost.

Each writer is a process of its own. For every generation it reads the aliases, tries to promote
its own version, and is told to have lost when another was faster; then it tries the next one. The
server is moto's, on the loopback interface, answering one request at a time as S3 answers one
conditional write at a time.

    python -m benchmarks.alias_race
"""

import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import fsspec
import typer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from benchmarks.provenance import provenance
from serving.registry import StaleAliases
from serving.registry.aliases import Aliases, AliasFile
from serving.registry.objects import ObjectAliases

BUCKET = "race"


def main(
    writers: int = 20,
    generations: Annotated[int, typer.Option(help="Changes until the race is over.")] = 100,
    output: Path = Path("benchmarks/results/alias_race.json"),
) -> None:
    """Race on S3 and on a local file, and fail if a generation has not exactly one winner."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "race",
        "AWS_SECRET_ACCESS_KEY": "race",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    os.environ["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{server.server_port}"
    fsspec.filesystem("s3").mkdir(BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "provenance": provenance(),
            "writers": writers,
            "s3": race(f"s3://{BUCKET}/aliases.json", writers, generations),
            "file": race(f"{folder}/aliases.json", writers, generations),
        }
    server.shutdown()
    output.write_text(json.dumps(result, indent=2) + "\n")
    typer.echo(json.dumps({name: result[name] for name in ("s3", "file")}, indent=2))


_barrier: Any = None  # of the writer's process


def race(location: str, writers: int, generations: int) -> dict[str, Any]:
    """Let `writers` processes change the aliases `generations` times in all.

    Raises:
        AssertionError: a generation had no winner or two, or the last state is nobody's.
    """
    context = multiprocessing.get_context("spawn")  # s3fs has a thread, which a fork would lose
    barrier = context.Barrier(writers)
    started = time.monotonic()
    with context.Pool(writers, initializer=_join, initargs=(barrier,)) as pool:
        jobs = [(location, f"version-{number}", generations) for number in range(writers)]
        outcomes = pool.starmap(write_until_the_end, jobs, chunksize=1)
    won = Counter(generation for wins, _, _ in outcomes for generation in wins)
    assert won == Counter(range(1, generations + 1)), won
    last = aliases_at(location).read()
    [champion] = [f"version-{n}" for n, (wins, _, _) in enumerate(outcomes) if generations in wins]
    assert last.generation == generations
    assert last.champion == champion
    return {
        "generations": generations,
        "winners_per_generation": 1,
        "refused_writes": sum(refused for _, refused, _ in outcomes),
        "wins_per_writer": [len(wins) for wins, _, _ in outcomes],
        "racing_seconds": round(max(seconds for _, _, seconds in outcomes), 2),
        "with_process_start_seconds": round(time.monotonic() - started, 2),
    }


def write_until_the_end(
    location: str, version: str, generations: int
) -> tuple[list[int], int, float]:
    """The generations that this writer won, how often it was refused, and the seconds it took."""
    aliases = aliases_at(location)
    wins, refused = [], 0
    _barrier.wait()
    started = time.monotonic()
    while (now := aliases.read()).generation < generations:
        mine = Aliases(champion=version, previous=now.champion)
        try:
            wins.append(aliases.write(mine, expected_generation=now.generation).generation)
        except StaleAliases:
            refused += 1
    return wins, refused, time.monotonic() - started


def aliases_at(location: str) -> AliasFile | ObjectAliases:
    """The aliases in a file or an object."""
    if "://" not in location:
        return AliasFile(Path(location))
    filesystem, path = fsspec.url_to_fs(location, use_listings_cache=False)
    return ObjectAliases(filesystem, path)


def _join(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


if __name__ == "__main__":
    typer.run(main)
