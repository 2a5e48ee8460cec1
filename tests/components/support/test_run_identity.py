import json
from datetime import UTC, datetime

import pytest

from components.support.run_identity import config_as_of, run_folder, run_moment
from components.support.settings import RunConfig, build_config
from tests.components.kfp.driver import RunFacts, resolve_constant

NIGHT = datetime(2026, 1, 3, 3, 30, tzinfo=UTC)
PLACEHOLDER = "{{$.pipeline_job_schedule_time_utc}}"
RUN_ID = "1f2e3d4c-0000-4000-8000-000000000000"


def as_the_driver_gives_it(text, version):
    return resolve_constant(text, "start-run", RunFacts(RUN_ID, "run", "workflow", NIGHT, version))


def test_the_moment_of_a_run_is_the_one_that_kubeflow_fills_in():
    assert run_moment(as_the_driver_gives_it(PLACEHOLDER, (2, 17, 0)), {}) == NIGHT


@pytest.mark.parametrize("version", [(2, 5, 0), (2, 15, 0), (2, 16, 1)])
def test_a_server_that_fills_in_nothing_is_named(version):
    with pytest.raises(RuntimeError, match=r"older than 2\.17\.0") as error:
        run_moment(as_the_driver_gives_it(PLACEHOLDER, version), {})
    assert "\n" not in str(error.value)


def test_the_moment_of_a_run_on_this_machine_is_now():
    before = datetime.now(UTC)
    assert before <= run_moment(PLACEHOLDER, {"SASREC_LOCAL_RUN": "1"}) <= datetime.now(UTC)


def test_nights_have_folders_of_their_own():
    template = "/mnt/sasrec/runs/nightly-{moment}-{run_id}"
    assert run_folder(template, NIGHT, RUN_ID) == (
        "/mnt/sasrec/runs/nightly-20260103-033000-1f2e3d4c"
    )


def test_a_folder_without_an_id_gets_one_on_a_cluster():
    asked = "/mnt/sasrec/runs/first"
    assert run_folder(asked, NIGHT, RUN_ID, {}) == "/mnt/sasrec/runs/first-1f2e3d4c"
    assert run_folder(asked, NIGHT, RUN_ID, {"SASREC_LOCAL_RUN": "1"}) == asked


def test_data_is_used_as_of_the_moment_unless_the_settings_name_another():
    config = build_config()
    filled = RunConfig.parse(config_as_of(config.model_dump_json(), NIGHT))
    assert (filled.data.as_of, filled.moment, filled.names_as_of) == (NIGHT, NIGHT, False)
    asked = config.model_dump(mode="json")
    asked["data"]["as_of"] = "2025-06-01T00:00:00Z"
    named = RunConfig.parse(config_as_of(json.dumps(asked), NIGHT))
    assert named.data.as_of == datetime(2025, 6, 1, tzinfo=UTC)
    assert named.names_as_of
