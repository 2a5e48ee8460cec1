"""Preset files: what is written is read again, and what is wrong is named by file and key."""

import pytest

from sasrec.errors import SettingsError
from sasrec.presets import PRESETS, preset
from sasrec.presets.file import read_preset, write_preset


def test_a_written_preset_is_read_again(tmp_path):
    made = PRESETS["sparse"].with_overrides(dim=32, learning_rate=0.002)
    write_preset(tmp_path / "shop.yaml", made, {"trials": 3, "validation": 0.06})
    assert preset(str(tmp_path / "shop.yaml")) == made


def test_a_file_by_hand_names_only_what_differs(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("based_on: sparse\nmodel: {dim: 128}\ntrain:\n  seed: 7\n")
    assert read_preset(path) == PRESETS["sparse"].with_overrides(dim=128, seed=7)
    path.write_text("model: {dim: 128}\n")
    assert read_preset(path) == PRESETS["default"].with_overrides(dim=128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {dims: 3}", r"setting 'model\.dims' is unknown; did you mean 'model\.dim'"),
        ("train: {epochs: many}", r"train\.epochs: "),
        ("model: {dim: 50, heads: 3}", r"model: heads=3 must divide dim=50"),
        ("model: {dim.x: 3}", r"'model\.dim\.x': model\.dim holds one value"),
        ("modle: {dim: 3}", "'modle' is unknown; did you mean 'model'"),
        ("based_on: sparce", "based_on: preset 'sparce' is unknown; did you mean 'sparse'"),
        ("model: 3", "model: "),
        ("- model", "must hold `model:` and `train:`"),
        ("model: {dim: [1", "not YAML"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_key(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=message) as caught:
        preset(str(path))
    assert str(caught.value).startswith(f"preset {path}: ")
    assert "\n" not in str(caught.value)
