"""The whole pipeline through KFP's local runner: promoted, held, killed on the way, refreshed."""

import json
import os
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_site import QUICK, Site

import pipeline
from components.support.fingerprint import model_digest
from components.support.stage import STAGES, read_stages
from feature_repo.lake.lake import open_lake
from sasrec.data.vocabulary import Vocabulary
from serving.registry import ModelStore
from serving.release.processes import running_server

AS_OF = "2025-06-24T00:00:00+00:00"  # the data go on for a week
FIRST_DAYS = ("--set", f"data.as_of={AS_OF}")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site.create(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def promoted(site):
    """A run that was killed in three of its stages, and then ended well when it was repeated.

    Training is killed at any instant in `tests/sasrec/training/test_loop.py`.
    """
    for stage in ("ingest", "refit", "register"):
        killed = site.start("promoted", *FIRST_DAYS)
        _wait_for(stage, site.run_dir("promoted"))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert ModelStore(site.home / "models").aliases().champion is None
    finished = site.run("promoted", *FIRST_DAYS, "--json", str(site.folder / "summary.json"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def test_a_good_model_is_promoted_and_answered_over_http(site, promoted):
    summary = site.summary("promoted")
    assert summary["gate"]["verdict"] == "promote"
    assert summary["deployed"] is True
    store = ModelStore(site.home / "models")
    assert store.aliases().champion == summary["model_version"]
    store.verify(summary["model_version"])
    deployment = (site.run_dir("promoted") / "deployment.json").read_text()
    for asked in ("known_user", "unknown_user", "bare_list"):
        assert asked in deployment


def test_kills_on_the_way_leave_one_version_and_no_half_trained_model(site, promoted):
    [version] = ModelStore(site.home / "models").versions()
    assert version.version == site.summary("promoted")["model_version"]
    assert not list((site.home / "training").iterdir())


def test_the_summary_says_what_the_run_was(site, promoted):
    summary = site.summary("promoted")
    assert (site.folder / "summary.json").exists()
    assert len(summary["split"]["sha256"]) == 64
    assert {"ndcg@10", "hr@10"} <= summary["metrics"].keys()
    assert {"popularity", "bigram Markov"} <= summary["baselines"].keys()
    assert list(summary["seconds"]) == list(STAGES)
    assert all(mib > 50 for mib in summary["peak_memory_mib"].values())
    assert summary["preset"]["name"] == "sparse"
    assert "given by hand: model.blocks, model.dim" in summary["preset"]["why"][-1]
    assert summary["config"]["model"]["dropout"] == 0.5


def test_the_last_line_says_what_happened_and_what_to_type_next(promoted):
    last_line = promoted.stdout.strip().splitlines()[-1]
    assert last_line.startswith("promote: test NDCG@10")
    assert "make serve" in last_line


def test_what_ships_has_learned_from_everything_and_names_who_vouches_for_it(site, promoted):
    store = ModelStore(site.home / "models")
    manifest = store.show(store.aliases().champion).metadata
    events = pq.read_table(site.folder / "shop" / "interactions.parquet")
    known = events.filter(pc.less(events["timestamp"], datetime.fromisoformat(AS_OF)))
    newest = pc.max(known["timestamp"]).as_py()
    assert abs(datetime.fromisoformat(manifest["seen_until"]) - newest) < timedelta(seconds=1)
    assert manifest["as_of"] == AS_OF
    assert manifest["cuts"]["evaluated"] < manifest["cuts"]["shipped"] == manifest["seen_until"]
    assert manifest["scores"]["evaluated"]["ndcg@10"] == manifest["metrics"]["ndcg@10"]
    assert manifest["refit"]["verdict"]["decision"] == "promote"
    assert manifest["refit"]["events"]["refit"] > manifest["refit"]["events"]["evaluated"]
    assert manifest["recipe"]["model"]["dim"] == 32
    assert manifest["warm_started_from"] is None
    vocabulary = Vocabulary.load(store.path(store.aliases().champion) / "vocabulary.json")
    assert set(known["item_id"].to_pylist()) <= set(vocabulary.item_ids)
    evaluated = next((site.run_dir("promoted") / "artifacts").rglob("train/model"))
    assert manifest["evaluated_as"] == model_digest(evaluated)
    assert "What ships" in (site.run_dir("promoted") / "report.html").read_text()


def test_a_refit_that_fails_a_check_leaves_the_champion_and_says_why(site, promoted):
    before = ModelStore(site.home / "models").aliases()
    held = site.run("unfit", *FIRST_DAYS, "--set", "refit.minimum_overlap=1")
    assert held.returncode == 3, held.stdout + held.stderr
    summary = site.summary("unfit")
    assert summary["gate"]["verdict"] == "hold"
    assert "recommends as the evaluated model" in summary["gate"]["reason"]
    assert "register" not in read_stages(site.run_dir("unfit"))
    assert ModelStore(site.home / "models").aliases() == before
    compared = json.loads((site.run_dir("unfit") / "verdict.json").read_text())
    assert compared["decision"] == "promote"


def test_a_refresh_continues_from_the_champion_on_what_is_new(site, promoted):
    store = ModelStore(site.home / "models")
    champion = store.show(store.aliases().champion)
    refreshed = site.run("refreshed", "--refresh")
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    split = site.summary("refreshed")["split"]
    assert champion.metadata["seen_until"] == split["since"] < split["t1"]
    after = store.show(store.aliases().champion).metadata
    assert after["warm_started_from"] == champion.version
    assert after["seen_until"] > champion.metadata["seen_until"]
    assert after["recipe"] == champion.metadata["recipe"]
    store.rollback(why="the tests below begin with the first champion")


def test_an_untrained_model_is_held_and_the_champion_stays(site, promoted):
    before = ModelStore(site.home / "models").aliases()
    held = site.run("held", settings=("train.epochs=0",))
    assert held.returncode == 3, held.stdout + held.stderr
    assert site.summary("held")["gate"]["verdict"] == "hold"
    assert site.summary("held")["deployed"] is False
    assert "register" not in read_stages(site.run_dir("held"))
    assert ModelStore(site.home / "models").aliases() == before
    again = site.run("held again", settings=("train.epochs=0",))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "run held made a model of the same data and settings" in again.stdout
    assert "train" not in read_stages(site.run_dir("held again"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "nowhere.csv"], "nowhere.csv"),
        (["--refresh", "--home", "HOME/empty"], "no champion to continue from"),
    ],
)
def test_bad_input_is_one_line_and_status_2(site, options, message):
    finished = site.run("bad", *(o.replace("HOME", str(site.folder)) for o in options))
    assert finished.returncode == 2, finished.stdout + finished.stderr
    [line] = [line for line in finished.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        (["--run-dir", "/proc/runs"], "cannot write to /proc/runs"),
        (["--home", "s3://bucket/shop"], "SASREC_LAKE_URL"),
    ],
)
def test_bad_options_end_before_anything_runs(site, options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*site.command("bad")[1:], *options])
    with pytest.raises(SystemExit) as ended:
        pipeline.main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_ctrl_c_leaves_no_process_behind(site):
    started = site.start("interrupted")
    _wait_for("ingest", site.run_dir("interrupted"))
    family = psutil.Process(started.pid).children(recursive=True)
    assert family
    os.kill(started.pid, signal.SIGINT)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 130, output
    assert not [process for process in family if _alive(process)]
    assert output.strip().splitlines()[-1].startswith("error: interrupted")


def test_the_next_night_learns_from_all_that_the_service_logged(site, promoted):
    """Night one imported; a crowd used the service; night two is given no data set."""
    before = ModelStore(site.home / "models").aliases().champion
    acknowledged, clicked = _a_day_at_the_service(site)
    roles = (*QUICK, "events.roles.dislike=negative")
    night = site.run("next night", settings=roles, imports=False)
    assert night.returncode == 0, night.stdout + night.stderr

    lake = open_lake(site.home)
    events = pa.concat_tables(
        pq.read_table(path, columns=["event_id", "item_id"]) for path in lake.files("interactions")
    )
    logged = [event for event in events["event_id"].to_pylist() if event is not None]
    assert sorted(logged) == sorted(acknowledged)

    [ingested] = (site.run_dir("next night") / "artifacts").glob("**/ingest/impressions")
    slots = pq.read_table(ingested).to_pylist()
    served = [slot for slot in slots if slot["model_version"] == before]
    assert served
    assert all(0 < slot["propensity"] <= 1 for slot in served)
    taken = {(slot["request_id"], slot["item_id"]) for slot in served if slot["reward"] == 1}
    assert taken == clicked

    store = ModelStore(site.home / "models")
    after = store.show(store.aliases().champion)
    assert after.version != before
    assert after.metadata["event_roles"] == {"dislike": "negative"}
    assert "launched-today" in Vocabulary.load(store.path(after.version) / "vocabulary.json")
    again = site.run("a night without news", settings=roles, imports=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing new" in again.stdout
    assert store.aliases().champion == after.version
    store.rollback(why="somebody looked at it")
    again = site.run("a night after a rollback", settings=roles, imports=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"version {after.version}, of the same data and settings, was taken back" in again.stdout
    assert store.aliases().champion == before


def _a_day_at_the_service(site) -> tuple[list[str], set[tuple[str, str]]]:
    """Event ids that the service acknowledged, and (request, item) of the slots that were taken."""
    acknowledged, clicked = [], set()
    users = pq.read_table(site.folder / "shop" / "interactions.parquet")["user_id"].unique()
    with (
        running_server(
            site.home, log=site.folder / "day.log", settings={"SASREC_INSECURE": "true"}
        ) as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):

        def tell(**event: str) -> None:
            client.post("/v1/events", json=event).raise_for_status()
            acknowledged.append(event["event_id"])

        for number, user in enumerate([*users.to_pylist()[:8], "a-new-user"]):
            asked = client.post("/v1/recommend", json={"user_id": user, "k": 5})
            answer = asked.raise_for_status().json()
            item = answer["items"][number % 5]["item_id"]
            request = answer["request_id"]
            told = {"user_id": user, "item_id": item, "request_id": request}
            tell(event_id=f"click-{number}", **told)
            clicked.add((request, item))
            tell(event_id=f"launch-{number}", user_id=user, item_id="launched-today")
            other = answer["items"][(number + 1) % 5]["item_id"]
            tell(event_id=f"no-{number}", user_id=user, item_id=other, event_type="dislike")
    return acknowledged, clicked


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, not yet reaped by init
    except psutil.NoSuchProcess:
        return False


def _wait_for(stage: str, run_dir: Path) -> None:
    deadline = time.monotonic() + 240
    while read_stages(run_dir).get(stage, {}).get("status") != "running":
        assert time.monotonic() < deadline, f"stage {stage} never began"
        time.sleep(0.01)
