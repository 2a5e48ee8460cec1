"""What can be wrong with a version on disk."""

from pathlib import Path

from safetensors.torch import load_file, save

from serving.registry.files import replace, sha256
from serving.registry.store import MANIFEST, Manifest


def flipped_byte(directory: Path) -> None:
    """One bit of the weights is another."""
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 0x40
    overwrite(weights, bytes(content))


def truncated_file(directory: Path) -> None:
    """The weights end early."""
    weights = directory / "model.safetensors"
    overwrite(weights, weights.read_bytes()[:-100])


def wrong_schema(directory: Path) -> None:
    """Digests agree, and yet the configuration is not one of this program."""
    overwrite(directory / "config.json", b'{"dim": 16, "layers": 3}')
    reseal(directory)


def golden_mismatch(directory: Path) -> None:
    """Digests agree, and yet these are not the weights that answered the golden requests."""
    path = directory / "model.safetensors"
    weights = load_file(path)
    weights["item_embedding.weight"] = weights["item_embedding.weight"].roll(1, dims=1)
    overwrite(path, save(weights))
    reseal(directory)


KINDS = (flipped_byte, truncated_file, wrong_schema, golden_mismatch)


def overwrite(path: Path, content: bytes) -> None:
    """Replace a file that the store made read-only."""
    path.chmod(0o644)
    path.write_bytes(content)


def reseal(directory: Path) -> None:
    """Make the manifest agree with the files."""
    manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    files = {name: sha256(directory / name) for name in manifest.files}
    sealed = manifest.model_copy(update={"files": files})
    replace(directory / MANIFEST, sealed.model_dump_json().encode())
