from types import SimpleNamespace

import fsspec
import pytest

from serving.registry import RegistryError, StaleAliases, open_registry
from serving.registry.aliases import Aliases
from serving.registry.objects import ObjectAliases, ObjectModelStore
from serving.worker.hot_swap import LiveModels
from tests.serving import s3_server
from tests.serving.sites import save_model

URL = f"s3://{s3_server.BUCKET}/shop"


@pytest.fixture(scope="module")
def endpoint():
    with s3_server.running() as url:
        yield url


@pytest.fixture
def s3(endpoint, monkeypatch):
    """A bucket that is empty at first; machines reach it by the environment alone."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    filesystem = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    if filesystem.exists(s3_server.BUCKET):
        filesystem.rm(s3_server.BUCKET, recursive=True)
    filesystem.mkdir(s3_server.BUCKET)
    return filesystem


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m", seed=1)


@pytest.fixture
def machine(s3, tmp_path):
    """Stores of several machines: one bucket, each its own disk."""
    return lambda name: ObjectModelStore(URL, tmp_path / name / "models")


def test_what_one_machine_registers_another_serves(machine, model_dir):
    version = machine("trainer").register(model_dir, metadata={"metrics": {"ndcg@10": 0.1}})
    server = machine("server")
    assert [manifest.version for manifest in server.versions()] == [version]
    assert not (server.root / version).exists()
    server.verify(version)
    content = (server.path(version) / "model.safetensors").read_bytes()
    assert content == (model_dir / "model.safetensors").read_bytes()


def test_promoting_and_rolling_back_is_seen_everywhere(machine, model_dir, tmp_path):
    trainer, server = machine("trainer"), machine("server")
    old = trainer.register(model_dir, metadata={})
    other = save_model(tmp_path / "other", seed=2)
    new = trainer.register(other, metadata={})
    trainer.promote(old)
    trainer.promote(new)
    assert server.aliases() == Aliases(champion=new, previous=old, generation=2)
    server.rollback()
    assert trainer.aliases().champion == old


def test_registering_again_changes_nothing(machine, model_dir, s3):
    first = machine("trainer").register(model_dir, metadata={})
    before = s3.find(f"{s3_server.BUCKET}/shop/{first}", detail=True)
    assert machine("another").register(model_dir, metadata={}) == first
    after = s3.find(f"{s3_server.BUCKET}/shop/{first}", detail=True)
    assert {n: i["LastModified"] for n, i in before.items()} == {
        n: i["LastModified"] for n, i in after.items()
    }


def test_half_an_upload_is_no_version(machine, model_dir, s3):
    version = machine("trainer").register(model_dir, metadata={})
    s3.rm_file(f"{s3_server.BUCKET}/shop/{version}/manifest.json")
    server = machine("server")
    assert server.versions() == []
    with pytest.raises(RegistryError, match=f"no version '{version}'"):
        server.promote(version)
    assert machine("again").register(model_dir, metadata={}) == version
    server.verify(version)


def test_a_damaged_object_is_not_promoted(machine, model_dir, s3):
    version = machine("trainer").register(model_dir, metadata={})
    s3.pipe_file(f"{s3_server.BUCKET}/shop/{version}/config.json", b"{}")
    server = machine("server")
    with pytest.raises(RegistryError, match=r"config\.json: sha256 differs"):
        server.promote(version)
    assert server.aliases().champion is None


def test_deleting_removes_the_objects_and_the_copy(machine, model_dir, s3):
    trainer = machine("trainer")
    version = trainer.register(model_dir, metadata={})
    assert trainer.gc(keep=0) == [version]
    assert not s3.exists(f"{s3_server.BUCKET}/shop/{version}")
    assert not (trainer.root / version).exists()


def test_the_audit_trail_is_one_object_a_change(machine, model_dir, s3):
    trainer = machine("trainer")
    trainer.promote(trainer.register(model_dir, metadata={}), why="first")
    lines = [s3.cat_file(path) for path in sorted(s3.ls(f"{s3_server.BUCKET}/shop/audit"))]
    assert [b"register" in line for line in lines] == [True, False]
    assert b'"why": "first"' in lines[1]


@pytest.mark.parametrize("generation", [0, 1])
def test_of_two_writers_that_read_one_generation_one_wins(s3, generation):
    first, second = (ObjectAliases(s3, f"{s3_server.BUCKET}/aliases.json") for _ in range(2))
    for number in range(generation):
        first.write(Aliases(champion="zero"), expected_generation=number)

    def write_after_the_first(*args, **kwargs):
        first.write(Aliases(champion="one"), expected_generation=generation)
        s3.pipe_file(*args, **kwargs)

    second._filesystem = SimpleNamespace(
        info=s3.info, cat_file=s3.cat_file, pipe_file=write_after_the_first
    )
    with pytest.raises(StaleAliases, match="replaced meanwhile"):
        second.write(Aliases(champion="two"), expected_generation=generation)
    assert first.read() == Aliases(champion="one", generation=generation + 1)


def test_a_writer_that_is_a_generation_behind_is_told(s3):
    aliases = ObjectAliases(s3, f"{s3_server.BUCKET}/aliases.json")
    aliases.write(Aliases(champion="one"), expected_generation=0)
    with pytest.raises(StaleAliases, match="generation is 1, expected 0"):
        aliases.write(Aliases(champion="two"), expected_generation=0)


def test_an_unknown_protocol_is_one_line(tmp_path):
    with pytest.raises(RegistryError, match="nosuch://bucket"):
        ObjectModelStore("nosuch://bucket", tmp_path)


def test_a_missing_bucket_is_one_line(machine, s3):
    s3.rm(s3_server.BUCKET, recursive=True)
    with pytest.raises(RegistryError, match="cannot be written"):
        machine("trainer")._aliases.write(Aliases(champion="x"), expected_generation=0)


def test_a_site_follows_the_url_in_the_environment(machine, model_dir, tmp_path, monkeypatch):
    """What a pipeline promotes on one machine, a worker of another home serves."""
    trainer = machine("trainer")
    version = trainer.register(model_dir, metadata={})
    trainer.promote(version)
    home = tmp_path / "worker"
    with pytest.raises(RegistryError, match="no models here"):
        open_registry(home, must_exist=True)
    monkeypatch.setenv("SASREC_MODELS_URL", URL)
    models = LiveModels(open_registry(home, must_exist=True))
    assert models.current.champion.version == version
    models.close()
    assert (home / "models" / version / "model.safetensors").exists()
