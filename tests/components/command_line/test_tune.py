"""`tune` from the command to the preset file; stages and training are stood in for."""

import json
from dataclasses import replace
from importlib import import_module

import pytest
import yaml
from typer.testing import CliRunner

from components.command_line import command_line
from components.support import tuning
from components.support.auto_preset import settle
from components.support.settings import build_config
from sasrec.data.dataset import SequenceDataset
from sasrec.errors import SettingsError
from sasrec.training.loop import TrainResult
from tests.sasrec.cyclic_world import VOCABULARY, world


@pytest.fixture
def prepared(monkeypatch):
    """Stages that leave the sequences of a small world; trainings whose score is their dropout."""
    asked = []

    def run_stages(pipeline, config, home, run_dir, console):
        home.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(parents=True)
        clock = "row-order" if config.split.kind == "leave-one-out" else "real"
        (run_dir / "data.json").write_text(json.dumps({"clock": clock}))
        (run_dir / "config.json").write_text(config.model_dump_json())
        train, validation = world()
        test = replace(validation, name="test")
        description = {"kind": "global-time", "sha256": "s", "repeats": None}
        users = [f"u{row}" for row in range(len(train))]
        data = SequenceDataset(description, VOCABULARY, users, train, validation, test)
        data.save(run_dir / "artifacts/p/extract-sequences/sequences")
        settle(config, data, run_dir)
        return True

    def train(histories, validation, vocabulary, model, config, folder, *, item_features, stop):
        asked.append((model, config, folder))
        assert validation.name == "validation"
        epoch = {"epoch": 1, "ndcg@10": 1 - model.dropout, "hr@10": 1.0}
        stop(epoch)
        return TrainResult(None, [epoch], 1, epoch["ndcg@10"])

    module = import_module("components.command_line.tune")  # the package has its function
    monkeypatch.setattr(module, "run_stages", run_stages)
    monkeypatch.setattr(tuning, "train", train)
    return asked


def said(tmp_path, *arguments, run="run"):
    folders = ["--home", str(tmp_path / "home"), "--run-dir", str(tmp_path / run)]
    done = CliRunner().invoke(command_line(None), ["tune", *folders, *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_from_the_preset_that_the_data_choose_to_one_that_run_takes(prepared, tmp_path):
    told = said(tmp_path, "--trials", "3", "--set", "train.epochs=1")
    assert told.count("NDCG@10") == 4
    assert "0.5000 as it started" in told
    tuned = tmp_path / "home" / "tuned.yaml"
    assert f"To use it: --preset {tuned}" in told
    written = yaml.safe_load(tuned.read_text())
    assert written["found"]["started_from"] == "preset auto: sparse"
    assert written["found"]["trials"] == {"complete": 3, "pruned": 0, "fail": 0}
    assert written["found"]["validation"]["of_the_start"] == 0.5
    chosen = build_config(str(tuned), ["train.seed=3"])
    best = min(prepared, key=lambda asked: asked[0].dropout)
    assert chosen.model == best[0]
    assert chosen.train == best[1].model_copy(update={"seed": 3})
    assert {config.epochs for _, config, _ in prepared} == {1}
    assert (tmp_path / "home" / "tuned.svg").exists()
    again = said(tmp_path, "--trials", "3", "--set", "train.epochs=1", run="again")
    assert "goes on after 3 trials" in again
    assert len(prepared) == 3


def test_what_is_searched_can_be_said_and_what_is_set_stays(prepared, tmp_path):
    arguments = ["--search", "model.dropout=0.3,0.4", "--search", "train.seed=0..3"]
    told = said(tmp_path, "--trials", "4", "--set", "model.dim=32", *arguments)
    assert {model.dim for model, _, _ in prepared} == {32}
    assert {model.dropout for model, _, _ in prepared} <= {0.3, 0.4, 0.5}
    assert "seed=" in told
    assert "dim=" not in told


def test_an_order_without_times_is_not_asked_for_elapsed_time(prepared, tmp_path):
    said(tmp_path, "--trials", "4", "--split", "leave-one-out")
    assert {model.time_bias for model, _, _ in prepared} == {False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search", "model.dims=1,2"], "did you mean 'model.dim'"),
        (["--search", "model.dim"], "--search 'model.dim' is not of the form"),
        (["--preset", "none.yaml"], "preset none.yaml: No such file"),
        (["--output", "tuned.json"], "must end in .yaml"),
        (["--home", "s3://bucket/x"], "must be a folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(prepared, tmp_path, arguments, message):
    with pytest.raises(SettingsError, match=message):
        said(tmp_path, *arguments)
    assert not prepared
    assert not (tmp_path / "home").exists()
