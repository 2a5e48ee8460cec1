"""Every data set the pipeline can read, by name or by path."""

from collections.abc import Mapping
from pathlib import Path

from sasrec.data.download import ARCHIVES, download
from sasrec.data.schema import INTERACTIONS
from sasrec.data.simulated import Storefront
from sasrec.data.source import Source
from sasrec.data.sources.folder import read_source
from sasrec.errors import DataError

__all__ = ["Source", "load"]

NAMED = ("simulated", "ml-100k", "ml-1m", "amazon-beauty-5core")


def load(
    dataset: str | Path,
    *,
    data_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Source:
    """Read a data set.

    Args:
        dataset: "simulated", "ml-100k", "ml-1m", "amazon-beauty-5core", or the path of a file or
            folder (delimited text, JSON Lines, Parquet, RecBole, GroupLens, SASRec text).
        data_dir: folder that holds the raw files of a named data set, itself or in a subfolder
            of that name; without it they are downloaded once, where their publisher allows.
        columns: contract column -> column of the interactions file, for names that are not
            recognised, such as {"user_id": "customer"}; "" leaves one out.
        seed: of the simulated storefront.

    Raises:
        DataError: nothing is found there, or what is found breaks the contract.
    """
    columns = columns or {}
    unknown = columns.keys() - set(INTERACTIONS.names[:-1])
    if unknown:
        raise DataError(
            f"column mapping: unknown column '{min(unknown)}'; known are {INTERACTIONS.names[:-1]}"
        )
    if dataset == "simulated":
        return Storefront(seed=seed).source()
    return read_source(locate(dataset, data_dir=data_dir), name=str(dataset), columns=columns)


def locate(dataset: str | Path, *, data_dir: str | Path | None = None) -> Path:
    """The file or folder that holds a data set other than the simulated one.

    Raises:
        DataError: there is none.
    """
    if dataset not in NAMED:
        path = Path(dataset)
        if not path.exists():
            raise DataError(
                f"dataset '{dataset}': no such file or folder, and not one of {list(NAMED)}"
            )
        return path
    if data_dir is None:
        if dataset not in ARCHIVES:
            raise DataError(f"{dataset}: not downloaded; name the folder that holds it: --data-dir")
        return download(ARCHIVES[dataset])
    folder = Path(data_dir)
    return folder / dataset if (folder / dataset).is_dir() else folder
