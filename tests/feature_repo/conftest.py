import shutil

import pyarrow as pa
import pytest
import redis

from tests.feature_repo.redis_server import running_redis
from tests.feature_repo.small_history import make_interactions


@pytest.fixture
def tmp_path(tmp_path):
    """A site may have any name but for brackets, which Delta Lake and Feast take for patterns."""
    folder = tmp_path / f"{tmp_path.name}-o'brien"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def interactions() -> pa.Table:
    return make_interactions(users=120, events=3000, seed=0)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def server(redis_url, monkeypatch):
    """A client of the Redis that the profiles with one use, empty before and after."""
    monkeypatch.setenv("REDIS_CONNECTION", redis_url.removeprefix("redis://").removesuffix("/0"))
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.flushall()


@pytest.fixture(scope="module")
def spark():
    pyspark = pytest.importorskip("pyspark.sql", reason="needs the extra 'spark'")
    if shutil.which("java") is None:
        pytest.skip("needs a Java runtime (17 or later) on the PATH")
    session = (
        pyspark.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.codegen.wholeStage", "false")  # compiling costs more than it saves
        .config("spark.sql.sources.parallelPartitionDiscovery.threshold", "1000")
        .getOrCreate()
    )
    yield session
    session.stop()
