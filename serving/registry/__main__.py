"""`python -m serving.registry`: look at versions and decide which one serves."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sasrec.errors import DataError
from serving.registry import ModelStore, RegistryError, StaleAliases, open_registry, package
from serving.registry.bento import bentoml_home

app = typer.Typer(
    help="Look at versions and decide which one serves.", no_args_is_help=True, add_completion=False
)

Home = Annotated[Path, typer.Option(help="The site.", envvar="SASREC_HOME")]
Version = Annotated[str, typer.Argument(help="A version, a prefix of one, or a role.")]
Why = Annotated[str, typer.Option(help="Kept in the audit trail.")]
HOME = Path("var/simulated")


class Format(StrEnum):
    """What a version can be exported as."""

    ONNX = "onnx"


@app.command("list")
def list_versions(home: Home = HOME) -> None:
    """All versions, newest first, with their roles."""
    with _store(home) as store:
        aliases = store.aliases()
        table = Table("version", "created", "role", "metrics")
        for manifest in store.versions():
            roles = [role for role, v in aliases if v == manifest.version]
            metrics = manifest.metadata.get("metrics", {})
            table.add_row(
                manifest.version,
                f"{manifest.created_at:%Y-%m-%d %H:%M:%S}",
                ", ".join(roles),
                "  ".join(f"{k}={v:.4g}" for k, v in metrics.items() if isinstance(v, float)),
            )
        Console().print(table)


@app.command()
def show(version: Version, home: Home = HOME) -> None:
    """The manifest of a version."""
    with _store(home) as store:
        Console().print_json(store.show(store.resolve(version)).model_dump_json())


@app.command()
def promote(
    version: Version, home: Home = HOME, challenger: bool = False, why: Why = "by hand"
) -> None:
    """Make a version the champion, or the challenger."""
    with _store(home) as store:
        aliases = store.promote(
            store.resolve(version), role="challenger" if challenger else "champion", why=why
        )
        print(aliases.model_dump_json())


@app.command()
def rollback(home: Home = HOME, why: Why = "by hand") -> None:
    """Make the previous champion the champion again."""
    with _store(home) as store:
        print(store.rollback(why=why).model_dump_json())


@app.command()
def verify(version: Version, home: Home = HOME) -> None:
    """Compare every file of a version with its digest."""
    with _store(home) as store:
        version = store.resolve(version)
        store.verify(version)
        print(f"{version}: {len(store.show(version).files)} files match the manifest")


@app.command()
def gc(
    home: Home = HOME,
    keep: Annotated[int, typer.Option(min=0, help="Newest versions without a role to keep.")] = 5,
) -> None:
    """Delete old versions that hold no role."""
    with _store(home) as store:
        for version in store.gc(keep=keep, why="by hand"):
            print(f"{version}: deleted")


@app.command()
def export(
    version: Version,
    home: Home = HOME,
    format: Annotated[Format, typer.Option(help="Of the file.")] = Format.ONNX,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; else exports/VERSION of the site.")
    ] = None,
) -> None:
    """Write a version as one file for other runtimes, checked against the model."""
    from serving.registry.export import FILE, export_onnx  # needs torch, and no other command does

    with _store(home) as store:
        version = store.resolve(version)
        store.verify(version)
        folder = output or home / "exports" / version
        difference = export_onnx(store.path(version), folder)
        print(f"{folder / FILE}: scores equal the model's within {difference:.1g}")


@app.command()
def build(version: Version = "champion", home: Home = HOME) -> None:
    """Build a Bento of the service with a version inside."""
    with _store(home) as store:
        version = store.resolve(version)
        tag = package.build(home, store, version)
        print(f"{tag}: serves version {version}; to try it, without keys and on this machine:")
        print(
            f"BENTOML_HOME={bentoml_home(home)} SASREC_HOME={home} SASREC_INSECURE=true"
            f" bentoml serve {tag} --host 127.0.0.1"
        )


@contextmanager
def _store(home: Path) -> Iterator[ModelStore]:
    try:
        yield open_registry(home, must_exist=True)
    except (RegistryError, StaleAliases, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
