"""What the commands' options are called and mean, and the configuration that they make."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from components.runners.platform import PlatformSettings
from components.support.settings import RunConfig, build_config
from sasrec.data import sources
from sasrec.errors import SettingsError


class SplitKind(StrEnum):
    """How time is cut."""

    GLOBAL_TIME = "global-time"
    LEAVE_ONE_OUT = "leave-one-out"


Dataset = Annotated[
    str | None,
    typer.Option(
        help="Imported into the site: simulated, ml-100k, ml-1m, amazon-beauty-5core, or a file or "
        "folder. Without it, the site's own data and what its service logged.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that already holds a named data set's raw files.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="Map a column: user_id=customer (repeatable).")
]
Split = Annotated[SplitKind, typer.Option(help="How time is cut into train, validation and test.")]
Preset = Annotated[
    str,
    typer.Option(
        help="Model and training settings: auto looks at the data and says what it chose, default "
        "or sparse (a handful of events a user over many items); large for a GPU; paper, bpr as "
        "published; or a file such as shop.yaml, made by tune or by hand."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting: train.epochs=3 (repeatable).")
]

Refresh = Annotated[
    bool,
    typer.Option(
        help="A quick run between nights: continue from the champion, learn from what is new.",
    ),
]
Gates = Annotated[
    Path, typer.Option(help="What a model must show before it serves.", show_default="built in")
]

Platform = Annotated[Path, typer.Option(help="What the cluster gives each component.")]
DEFAULT_PLATFORM = Path("deploy/platform.yaml")
Experiment = Annotated[str, typer.Option(help="KFP experiment that holds the runs.")]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Of the version: commit=abc (repeatable)."),
]
Wait = Annotated[bool, typer.Option(help="Watch the run to its end.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to watch before giving up.")]


def configuration(
    dataset: str | None,
    data_dir: Path | None,
    columns: list[str] | None,
    split: SplitKind,
    preset: str,
    overrides: list[str] | None,
    gates: Path,
    refresh: bool = False,
) -> RunConfig:
    """What the options say, checked before anything runs.

    Raises:
        SettingsError: an option that does not fit, in one line.
    """
    data: dict[str, Any] = {
        "dataset": dataset_name(dataset),
        "data_dir": data_dir and data_dir.absolute(),
        "columns": pairs(columns),
    }
    sections: dict[str, dict[str, Any]] = {"data": data, "split": {"kind": split.value}}
    if refresh:  # of what is new; the refit then learns from all of it
        sections["refresh"] = {"enabled": True}
        sections["split"] |= {"validation_fraction": 0.1, "test_fraction": 0.4}
    return build_config(preset, overrides or [], sections, gates)


def home_folder(home: Path) -> Path:
    """Raises: SettingsError: it is an address and not a folder."""
    if re.match(r"\w+:/", str(home)):
        raise SettingsError(
            f"--home {home}: must be a folder; SASREC_LAKE_URL and SASREC_MODELS_URL put data and "
            "models into a bucket"
        )
    return home


def dataset_name(dataset: str | None) -> str | None:
    """A named data set as it is, a path from the root.

    Links keep their names: caches link `events.csv` to a file named by its digest.
    """
    if dataset is None or dataset in sources.NAMED:
        return dataset
    return str(Path(dataset).absolute())


def pairs(texts: list[str] | None) -> dict[str, str]:
    """`["a=b"]` as `{"a": "b"}`."""
    return dict(text.partition("=")[::2] for text in texts or [])


def platform_settings(path: Path) -> PlatformSettings:
    """Those of a file. There are none without one: nothing else says where Redis is.

    Raises:
        SettingsError: the file, the field and what is wrong with it.
    """
    if path == DEFAULT_PLATFORM and not path.exists():
        raise SettingsError(f"no {path} here; --platform names the cluster's file, made like it")
    return PlatformSettings.load(path)
