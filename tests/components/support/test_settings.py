import pytest

from components.support.settings import RunConfig, build_config, describe_settings
from sasrec.errors import SettingsError


def test_overrides_reach_their_section_and_type():
    config = build_config(overrides=["train.epochs=3", "model.dropout=0.5", "data.seed=7"])
    assert (config.train.epochs, config.model.dropout, config.data.seed) == (3, 0.5, 7)


def test_the_configuration_survives_json():
    config = build_config("bpr", ["train.learning_rate=0.003"])
    assert RunConfig.parse(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("trian.epochs=3", "did you mean 'train.epochs'"),
        ("train.epochs", "not of the form section.field=value"),
        ("train.epochs=many", "train.epochs"),
        ("model.dim=[16", "--set 'model.dim=\\[16': expected ',' or ']'"),
        ("model.dim=-1", "model.dim"),
        ("split.validation_fraction=0.9", "split.validation_fraction"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_setting(override, message):
    with pytest.raises(SettingsError, match=message) as caught:
        build_config(overrides=[override])
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'paper'"):
        build_config("papper")


def test_every_setting_is_described():
    lines = describe_settings().splitlines()
    assert any(line.startswith("train.epochs = ") for line in lines)
    assert all(len(line.split(" = ", 1)[1].split("  ", 1)) == 2 for line in lines)


def test_as_of_needs_a_time_zone():
    config = build_config(overrides=["data.as_of=2026-11-01T03:30:00Z"])
    assert RunConfig.parse(config.model_dump_json()).data.as_of.isoformat() == (
        "2026-11-01T03:30:00+00:00"
    )
    with pytest.raises(SettingsError, match=r"data\.as_of"):
        build_config(overrides=["data.as_of=2026-11-01T03:30:00"])


def test_event_roles_are_checked_with_the_settings():
    config = build_config(overrides=["events.roles.purchase=3", "events.roles.hide=negative"])
    assert RunConfig.parse(config.model_dump_json()).events.roles == {
        "purchase": 3,
        "hide": "negative",
    }
    with pytest.raises(SettingsError, match="role 'loved' of event type 'view' is unknown"):
        build_config(overrides=["events.roles={view: loved}"])
