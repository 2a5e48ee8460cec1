"""A Bento holds all that it needs, and answers as `python -m serving` does."""

import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
from typer.testing import CliRunner

from serving.registry import ModelStore
from serving.registry.__main__ import app
from serving.registry.bento import bentoml_home
from serving.registry.package import pinned
from serving.release.lifetime import end_with_parent
from serving.release.processes import (
    START_SECONDS,
    command,
    environment,
    free_port,
    stop_group,
)
from tests.serving.sites import ITEM_IDS, KEYS

GREEDY = {"SASREC_EPSILON": "0", "SASREC_GOLD_SHARE": "0"}
REQUESTS = [
    {"request_id": "a", "recent_items": ITEM_IDS[3:6], "k": 20},
    {"request_id": "b", "user_id": "nobody", "category": "books"},
    {"request_id": "c", "recent_items": ITEM_IDS[:1], "exclude": ITEM_IDS[10:40], "k": 100},
]


@contextmanager
def serving(arguments, port, folder, **settings):
    """A server started by `arguments` and ready."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            env={**environment(folder), "PYTHONPATH": "", **GREEDY, **settings},
            cwd=folder,  # not the source tree
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(process, url, folder / "server.log")
            yield url
        finally:
            stop_group(process)


def wait_until_ready(process, url, log):
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def answers(url):
    headers = {"Authorization": f"Bearer {KEYS.admin[0]}"}
    with httpx.Client(base_url=url, headers=headers) as client:
        return [client.post("/v1/recommend", json=request).json() for request in REQUESTS]


def test_a_bento_serves_the_answers_of_the_site_it_was_built_from(home, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text(KEYS.model_dump_json())
    (home / "api_keys.json").write_text(KEYS.model_dump_json())
    port = free_port()
    ours = [sys.executable, "-m", "serving", "--home", str(home), "--port", str(port)]
    with serving(ours, port, tmp_path) as url:
        expected = answers(url)
    version = ModelStore(home / "models").aliases().champion
    assert all(answer["model_version"] == version and answer["items"] for answer in expected)

    built = CliRunner().invoke(app, ["build", "--home", str(home)])
    assert built.exit_code == 0, built.output
    tag = built.stdout.split(": ")[0]
    bento = bentoml_home(home) / "bentos" / tag.replace(":", "/")
    # Its own code serves, not the tree it was built from.
    page = bento / "src" / "serving" / "api" / "console" / "console.html"
    page.write_text("the console of the Bento")
    shutil.rmtree(home / "models")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    theirs = [tag if part.startswith("serving.") else part for part in command("127.0.0.1", port)]
    with serving(
        theirs,
        port,
        elsewhere,
        BENTOML_HOME=str(bentoml_home(home)),
        SASREC_API_KEYS=str(keys),
        SASREC_WORKERS="2",
    ) as url:
        assert answers(url) == expected
        assert httpx.get(url).text == "the console of the Bento"
    assert [path.name for path in (elsewhere / "models").glob("[!.]*")] == [version]


def test_a_broken_version_is_not_built(home):
    [vocabulary] = (home / "models").glob("*/vocabulary.json")
    vocabulary.chmod(0o644)
    vocabulary.write_text("[]")
    result = CliRunner().invoke(app, ["build", "--home", str(home)])
    assert result.exit_code == 2
    assert "vocabulary.json: sha256 differs" in result.stderr


def test_every_library_is_pinned_and_tools_are_not_among_them():
    pins = pinned("sasrec-pipeline")
    names = {pin.split("==")[0] for pin in pins}
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert {"torch", "bentoml", "redis", "duckdb", "starlette"} <= names
    assert not names & {"pytest", "ruff", "pyspark"}


def test_a_site_without_models_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["build", "--home", str(tmp_path / "no")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
