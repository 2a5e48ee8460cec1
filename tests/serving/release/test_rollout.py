import pytest
from kubernetes import client

from serving.registry import ModelStore
from serving.release.kubernetes import ATTEMPTS
from serving.release.rollout import RolloutError, RolloutSettings, roll_out
from tests.json_server import running
from tests.serving.kubernetes_server import Cluster
from tests.serving.sites import register


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with two versions, and their names."""
    folder = tmp_path_factory.mktemp("site")
    return folder, [register(folder, folder, seed=seed) for seed in (1, 2)]


@pytest.fixture
def store(site):
    """The second version was just promoted over the first."""
    folder, [old, new] = site
    (folder / "models" / "aliases.json").unlink(missing_ok=True)
    store = ModelStore(folder / "models")
    store.promote(old)
    store.promote(new)
    return store


@pytest.fixture
def cluster(store):
    cluster = Cluster()
    cluster.served = lambda image: (200, answer(store.aliases().champion))
    return cluster


def answer(version, **changes):
    return {"model_version": version, "items": [{"item_id": "i"}], "degraded": None, **changes}


def deploy(cluster, store, image="sasrec:new", **settings):
    with running(cluster) as url:
        api = client.ApiClient(client.Configuration(host=url))
        api.configuration.retries = False
        roll_out(
            RolloutSettings(
                namespace=settings.pop("namespace", "sasrec"),
                image=image,
                url=url,
                poll_seconds=0.002,
                timeout_seconds=settings.pop("timeout_seconds", 0.2),
            ),
            store,
            store.aliases(),
            api,
        )


def refused(cluster, store, **settings):
    """The one line of a deployment that fails, and that both champion and image are back."""
    before = store.aliases()
    with pytest.raises(RolloutError) as error:
        deploy(cluster, store, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert store.aliases().champion == before.previous
    assert cluster.image == "sasrec:old"
    assert f"champion {before.previous} is back" in message
    return message


def test_a_new_image_is_applied_once_and_only_that_field(cluster, store):
    champion = store.aliases().champion
    deploy(cluster, store)
    assert cluster.images == ["sasrec:old", "sasrec:new"]
    [body] = cluster.applies
    assert body["spec"] == {
        "template": {"spec": {"containers": [{"name": "serving", "image": "sasrec:new"}]}}
    }
    assert store.aliases().champion == champion


def test_repeating_rolls_nothing_out_but_asks_again(cluster, store):
    deploy(cluster, store)
    deploy(cluster, store)
    assert len(cluster.applies) == 1


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
def test_a_pod_that_cannot_start_is_named_and_rolled_back(cluster, store, reason):
    cluster.waiting["sasrec:new"] = (reason, "manifest\nunknown")
    message = refused(cluster, store)
    assert f"pod sasrec-serving-x: {reason} (manifest unknown)" in message
    assert "image sasrec:old is back" in message


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            {"type": "ReplicaFailure", "reason": "FailedCreate", "message": "exceeded quota: cpu"},
            "exceeded quota",
        ),
        (
            {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
            "ProgressDeadlineExceeded",
        ),
    ],
)
def test_what_kubernetes_gave_up_on_is_rolled_back(cluster, store, condition, said):
    cluster.conditions["sasrec:new"] = condition
    assert said in refused(cluster, store)


def test_a_rollout_that_takes_too_long_is_rolled_back(cluster, store):
    cluster.stuck.add("sasrec:new")
    assert "3 pods ready after" in refused(cluster, store, timeout_seconds=0.05)


@pytest.mark.parametrize(
    ("status", "changes", "said"),
    [
        (500, {}, "status 500"),
        (200, {"model_version": "other"}, "version other answered"),
        (200, {"items": []}, "no items"),
        (200, {"degraded": "history"}, "degraded: history"),
    ],
)
def test_a_service_that_answers_wrongly_is_rolled_back(cluster, store, status, changes, said):
    good = store.aliases().champion
    cluster.served = lambda image: (
        (status, answer(good, **changes)) if image == "sasrec:new" else (200, answer(good))
    )
    assert said in refused(cluster, store)


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "token has expired"), (403, "sasrec-rollout"), (404, "SASREC_ROLLOUT_NAMESPACE")],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_refusal_changes_nothing_and_names_the_next_step(cluster, store, method, status, said):
    cluster.statuses[method] = [status]
    assert said in refused(cluster, store)
    assert cluster.applies == []


def test_an_api_server_away_for_a_moment_is_asked_again(cluster, store):
    cluster.statuses = {"GET": [503, 429], "PATCH": [503]}
    deploy(cluster, store)
    assert cluster.image == "sasrec:new"


def test_an_api_server_that_stays_away_is_given_up_on(cluster, store):
    cluster.statuses["GET"] = [503] * ATTEMPTS
    assert "answered 503" in refused(cluster, store)


def test_a_half_finished_rollout_of_someone_else_is_not_touched(cluster, store):
    cluster.images = ["sasrec:old", "sasrec:theirs"]
    cluster.stuck.add("sasrec:theirs")
    before = store.aliases()
    with pytest.raises(RolloutError, match="another rollout is under way"):
        deploy(cluster, store)
    assert cluster.applies == []
    assert store.aliases().champion == before.previous


def test_aliases_that_someone_else_moved_meanwhile_stay_as_they_are(cluster, store, site):
    _, [old, new] = site
    cluster.waiting["sasrec:new"] = ("ErrImagePull", "no such image")

    pods = cluster._pods

    def move_and_look():
        if store.aliases().champion == new:
            store.promote(old, why="by hand")
        return pods()

    cluster._pods = move_and_look
    with pytest.raises(RolloutError, match="moved meanwhile and stay"):
        deploy(cluster, store)
    assert store.aliases().champion == old
    assert store.aliases().previous == new
    assert cluster.image == "sasrec:old"


def test_when_the_image_cannot_be_put_back_that_is_said(cluster, store):
    cluster.waiting["sasrec:new"] = ("ErrImagePull", "no such image")
    pods = cluster._pods

    def lose_the_right():
        cluster.statuses["PATCH"] = [403]
        return pods()

    cluster._pods = lose_the_right
    with pytest.raises(RolloutError, match=r"NOT back.*kubectl rollout undo"):
        deploy(cluster, store)


def test_a_first_champion_stays(cluster, site, tmp_path):
    folder, [old, _] = site
    (folder / "models" / "aliases.json").unlink(missing_ok=True)
    store = ModelStore(folder / "models")
    store.promote(old)
    cluster.waiting["sasrec:new"] = ("ErrImagePull", "no such image")
    with pytest.raises(RolloutError, match="there is none before it"):
        deploy(cluster, store)
    assert store.aliases().champion == old
