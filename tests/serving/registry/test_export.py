import importlib.util
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.model import single_history
from sasrec.model.config import ModelConfig
from sasrec.model.item_features import ItemFeatures
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.scoring.decayed_counts import DecayedCounts
from sasrec.scoring.trend import Trend
from serving.registry import RegistryError, export
from serving.registry.__main__ import app
from tests.serving.sites import ITEM_IDS, NUM_ITEMS

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")

# Each option of the architecture that changes what is computed, in as few models as possible.
ARCHITECTURES = {
    "default": {},
    "post-norm from the newest": {"norm": "post", "positions": "newest"},
    "relative biases": {"positions": "none", "position_bias": True, "time_bias": True},
    "cosine scores": {"cosine_temperature": 0.1},
    "swiglu and item features": {"feed_forward": "swiglu", "feature_buckets": 8},
}


def save(directory, options):
    torch.manual_seed(1)
    config = ModelConfig(dim=16, blocks=2, heads=2, max_length=20, **options)
    features = None
    if config.feature_buckets:
        rows = np.arange(NUM_ITEMS + 1) % config.feature_buckets
        features = ItemFeatures(rows, np.arange(NUM_ITEMS + 2))
    model = SASRec(config, NUM_ITEMS, features)
    for parameter in model.parameters():  # fresh biases and norms would hide what they do
        torch.nn.init.normal_(parameter, std=0.3)
    recommender = Recommender(model, Vocabulary(ITEM_IDS))
    recommender.save(directory)
    return recommender


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_scores_equal_the_model_s_at_every_length(tmp_path, options):
    recommender = save(tmp_path / "model", options)
    assert export.export_onnx(tmp_path / "model", tmp_path / "out") < 1e-4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "vocabulary.json"}

    # Moved away from everything else, as another team gets it.
    moved = shutil.copy(tmp_path / "out" / "model.onnx", tmp_path / "alone.onnx")
    session = onnxruntime.InferenceSession(moved, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["max_length"] == "20"
    assert [value.name for value in session.get_inputs()] == ["items", "seconds"]
    rng = np.random.default_rng(5)
    for length in range(1, 21):
        items = rng.integers(1, NUM_ITEMS + 1, length)
        seconds = np.cumsum(rng.integers(0, 10**5, length)) + 1_700_000_000
        [scores] = session.run(["scores"], {"items": items, "seconds": seconds})
        cu_seqlens = np.array([0, length], dtype=np.int32)
        expected = recommender.logits(PackedSequences(items, cu_seqlens, seconds * 10**6))[0]
        np.testing.assert_allclose(scores[1:], expected[1:].numpy(), atol=1e-4, rtol=0)


def test_a_trend_s_counts_are_an_input(tmp_path):
    recommender = save(tmp_path / "model", {})
    trend = Trend((3600.0, 86_400.0), (0.5, -0.25))
    trend.save(tmp_path / "model", DecayedCounts(NUM_ITEMS, trend.half_lives, 0))
    assert export.export_onnx(tmp_path / "model", tmp_path / "out") < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["half_lives"] == "[3600.0, 86400.0]"
    counts = np.zeros((2, NUM_ITEMS + 1), dtype=np.float32)
    counts[:, 7] = 20
    items = np.array([1, 2])
    [scores] = session.run(None, {"items": items, "seconds": items, "counts": counts})
    history = PackedSequences(items, np.array([0, 2], dtype=np.int32), items)
    alone = recommender.logits(history)[0].numpy()
    np.testing.assert_allclose(scores[1:], (alone + trend.bonus(counts))[1:], atol=1e-4)
    assert scores[7] - alone[7] == pytest.approx(0.25 * np.log(21), abs=1e-4)


def test_a_file_that_disagrees_is_refused_and_removed(tmp_path, monkeypatch):
    save(tmp_path / "model", {})
    attention = single_history._attention
    monkeypatch.setattr(
        single_history, "_attention", lambda *arguments: 1.01 * attention(*arguments)
    )
    with pytest.raises(RegistryError, match="scores differ from the model's by"):
        export.export_onnx(tmp_path / "model", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def run(home, *arguments):
    return CliRunner().invoke(app, ["export", *arguments, "--home", str(home)])


def test_the_command_writes_the_champion(home):
    result = run(home, "champion", "--format", "onnx")
    assert result.exit_code == 0, result.output
    [written] = (home / "exports").glob("*/model.onnx")
    assert result.output.startswith(f"{written}: scores equal the model's within")


def test_a_damaged_version_is_not_exported(home):
    [weights] = (home / "models").glob("*/model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    result = run(home, "champion")
    assert result.exit_code == 2
    assert "sha256 differs" in result.stderr


def test_a_missing_extra_is_named_in_one_line(home, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(export, "find_spec", lambda n: None if n == "onnxscript" else find(n))
    result = run(home, "champion")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: onnxscript is not installed; ONNX needs the extra: pip install -e '.[export]'\n"
    )
