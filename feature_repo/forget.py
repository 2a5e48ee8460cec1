"""`python -m feature_repo.forget USER --home HOME`: remove a user, and prove it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from feature_repo import event_log
from feature_repo.command_line import (
    History,
    Home,
    Log,
    end_process,
    feature_store_of,
    history_of,
    log_of,
    run,
)
from feature_repo.history import HistoryStore, open_history
from feature_repo.lake.lake import Lake, only_writer, open_lake
from feature_repo.lease import held
from feature_repo.online import OnlineHistory
from feature_repo.publish import read_report
from feature_repo.run_copies import drop_copies, runs_of
from feature_repo.store import delete_online, generations, only_publisher, published_generation


def forget(
    repo_dir: Path, log: Path, history: HistoryStore, lake: Lake, user_id: str
) -> dict[str, int]:
    """Remove `user_id` from the online history, Feast's stores, the log and the site's data.

    What was computed over many users stays: item statistics and trained models. A data set that
    still lists the user brings it back when it is imported in another version, so remove it there
    first. Nobody else may be using the site's data, see `only_writer`.

    Returns:
        What is left of the user in each place, read anew as a server or the next run would: all 0.

    Raises:
        DataError: a publish is running.
    """
    with only_publisher(repo_dir):
        event_log.forget(log, user_id)
        lake.forget(user_id)
        history.forget(user_id)
        for generation in generations(repo_dir):
            delete_online(generation, user_id)
        for file in _files(repo_dir):
            _rewrite_without(file, user_id)
    return {
        "online": len(OnlineHistory(repo_dir, history).read(user_id, 1).item_ids),
        "offline": sum(_count(file, user_id) for file in _files(repo_dir)),
        "data": lake.rows_of(user_id),
        "log": sum(record.get("user_id") == user_id for record in event_log.read_log(log)),
    }


def _files(repo_dir: Path) -> Iterator[Path]:
    """Parquet files with users in them: offline tables, and the day files of the last publish."""
    folders = list(generations(repo_dir))
    if (current := published_generation(repo_dir)) and (days := read_report(current)["folder"]):
        folders.append(Path(days))
    for folder in folders:
        for file in sorted(folder.rglob("*.parquet")):
            if file.parent.name != "item_stats":
                yield file


def _count(file: Path, user_id: str) -> int:
    users = pq.ParquetFile(file).read(["user_id"])["user_id"]
    return int(pc.sum(pc.equal(users, user_id)).as_py() or 0)


def _rewrite_without(file: Path, user_id: str) -> None:
    if _count(file, user_id):
        table = pq.ParquetFile(file).read()
        rest = table.filter(pc.not_equal(table["user_id"], user_id))
        pq.write_table(rest, file.with_suffix(".new"), compression="zstd")
        file.with_suffix(".new").replace(file)
        # Spark keeps a checksum beside each file, and refuses one that does not fit.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def main(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    home: Home,
    history: History = None,
    log: Log = None,
) -> None:
    """Remove a user from online stores, tables, data and log; exit 1 if anything is left.

    The copies of the data that earlier runs kept go as a whole; their reports stay.
    """
    store = open_history(history_of(home, history))
    with held(home, "feature_repo.forget", end_process), only_writer(home):
        left = forget(feature_store_of(home), log_of(home, log), store, open_lake(home), user)
        for run_dir in runs_of(home):
            drop_copies(run_dir)
    print("left of the user:", ", ".join(f"{place} {rows}" for place, rows in left.items()))
    raise typer.Exit(any(left.values()))


if __name__ == "__main__":
    run(main)
