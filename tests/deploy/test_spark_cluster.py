"""The Spark profile on a cluster by Spark's settings alone: two workers, each a JVM of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.feature_repo.redis_server import running_redis

# Each executor's memory is Spark's least, 450 MiB and some.
DEFAULTS = """
spark.master local-cluster[2,1,640]
spark.executor.memory 640m
spark.driver.memory 1g
spark.ui.enabled false
spark.sql.shuffle.partitions 2
"""
SCRIPT = """
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from feature_repo.extract import sequences_as_of
from feature_repo.publish import publish
from tests.feature_repo.small_history import make_interactions
from tests.feature_repo.test_spark import inputs

folder = Path(sys.argv[1])
given = inputs()
interactions = make_interactions(users=120, events=3000, seed=0)
found = {}
for profile in ("cluster", "local"):
    publish(folder / profile, interactions=interactions, profile=profile, **given)
    found[profile] = sequences_as_of(folder / profile, given["cutoffs"])
context = SparkSession.getActiveSession().sparkContext
print("master", context.master)
print("executors", context._jsc.sc().getExecutorMemoryStatus().size() - 1)
print("equal", found["cluster"].equals(found["local"]), found["cluster"].num_rows)
"""


@pytest.mark.timeout(600)
def test_feasts_spark_store_on_two_workers_equals_duckdb(tmp_path):
    pytest.importorskip("pyspark.sql", reason="needs the extra 'spark'")
    if shutil.which("java") is None:
        pytest.skip("needs a Java runtime (17 or later) on the PATH")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text(DEFAULTS)
    with running_redis(tmp_path) as url:
        environment = os.environ | {
            "SPARK_CONF_DIR": str(tmp_path / "conf"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]),
            "REDIS_CONNECTION": url.removeprefix("redis://").removesuffix("/0"),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["master"].startswith("local-cluster")
    assert said["executors"] == "2"
    assert said["equal"] == "True 240"
