"""`python pipeline.py check DATA`: what a run would make of some data, in seconds."""

import shlex
from collections import Counter
from dataclasses import replace
from typing import Annotated

import typer

from components.command_line.options import Columns, DataDir, dataset_name, pairs
from sasrec.data import sources
from sasrec.data.cleaning import clean
from sasrec.data.repeats import told
from sasrec.data.roles import Roles
from sasrec.data.source import Source
from sasrec.data.splits import Split, SplitKind, split_source, training_lengths
from sasrec.errors import DataError
from sasrec.presets.auto import DataFacts, choose

FRACTION = 0.1
"""Of the events, that validation and test have each, as in a run."""


def check(
    data: Annotated[str, typer.Argument(help="As `run --dataset`: a name, a file or a folder.")],
    data_dir: DataDir = None,
    column: Columns = None,
) -> None:
    """Read, clean and split some data, and print what was found; runs and writes nothing.

    Its output is what a question about some data should come with.
    """
    columns = pairs(column)
    source, report = clean(
        sources.load(str(dataset_name(data)), data_dir=data_dir, columns=columns)
    )
    split, why = _split(source)
    notes = report.notes
    if split.repeats:
        notes = [*notes, told(split.repeats, None)]
    counted = Counter(source.interactions["event_type"].to_pylist())
    roles = Roles.parse({})
    kinds = {
        kind: {"role": roles.role(kind), "weight": roles.weight(kind), "events": events}
        for kind, events in sorted(counted.items())
    }
    repeated = split.repeats["targets"] if split.repeats else None
    report = replace(report, notes=notes, event_types=kinds, repeated_targets=repeated)
    typer.echo(report.to_markdown())
    typer.echo("")
    typer.echo(_told(split, why))
    typer.echo("")
    choice = choose(_facts(source, split))
    typer.echo("\n".join(choice.lines()))
    typer.echo("")
    typer.echo(f"To run it: {_command(data, columns, split)}")


def _split(source: Source) -> tuple[Split, str]:
    """By time if that can be, else each user's last; and why."""
    if source.clock == "real":
        try:
            return _cut(source, "global-time"), "times are known"
        except DataError as error:
            why = str(error)
    else:
        why = "rows have an order but no time"
    return _cut(source, "leave-one-out"), why


def _cut(source: Source, kind: SplitKind) -> Split:
    return split_source(source, kind, validation_fraction=FRACTION, test_fraction=FRACTION)


def _told(split: Split, why: str) -> str:
    counts = split.counts
    lines = [
        f"Split {split.kind} ({why}), {split.sha256[:12]}: {counts['train_users']:,} users to "
        f"train on, {counts['validation_users']:,} to validate, {counts['test_users']:,} to test; "
        f"{len(split.known_items):,} items are known by then."
    ]
    if split.t1 and split.t2:
        cuts = [moment.isoformat(timespec="seconds") for moment in (split.t1, split.t2)]
        lines.append(f"Validation begins at {cuts[0]}, test at {cuts[1]}.")
    return "\n".join(lines)


def _facts(source: Source, split: Split) -> DataFacts:
    return DataFacts.of(
        training_lengths(split, source.interactions),
        len(split.known_items),
        timed=source.clock == "real",
        repeats=split.repeats["targets"] if split.repeats else None,
    )


def _command(data: str, columns: dict[str, str], split: Split) -> str:
    words = ["python", "pipeline.py", "run", "--dataset", data]
    for name, column in columns.items():
        words += ["--column", f"{name}={column}"]
    if split.kind != "global-time":
        words += ["--split", split.kind]
    return shlex.join(words)
