"""Bounds every test process to one thread: the suite runs one process per core."""

import inspect
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

LONG = {"test_run.py", "test_two_nights.py", "test_faults.py", "test_month.py"}
# Files whose tests start servers, compilers, browsers or other machines: not in `make check`.
SLOW = LONG | {
    "test_aot.py",
    "test_console.py",
    "test_examples.py",
    "test_export.py",
    "test_interpreter.py",
    "test_live.py",
    "test_monitor.py",
    "test_package.py",
    "test_production.py",
    "test_redis_outage.py",
    "test_spark.py",
    "test_spark_cluster.py",
    "test_two_hosts.py",
}

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FEAST_USAGE", "False")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that `SASREC_DATA_DIR` names."""
    folder = os.environ.get("SASREC_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: SASREC_DATA_DIR names no folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def _shallow_stacks():
    """KFP reads the source of every frame above at each setting of a task: 50 ms beneath pytest."""
    if "kfp" in sys.modules:
        from kfp.dsl import pipeline_task

        pipeline_task.inspect = SimpleNamespace(stack=lambda: inspect.stack(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one when the others are done."""
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if item.path.name in SLOW:
            item.add_marker("slow")
