"""Multi-user installs: which path and which token, by the rules of the filters before the API."""

import pytest

from components.runners import endpoint as endpoint_module
from components.runners.cluster import Cluster
from components.runners.endpoint import AUDIENCE, ClusterError, Endpoint
from tests.components.kfp import KfpServer
from tests.components.kfp.gateway import Dashboard, InCluster, service_account_token
from tests.json_server import running

ISSUER = "https://kubernetes.default.svc.cluster.local"
ANY = service_account_token("https://kubernetes.default.svc")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(endpoint_module, "RETRY_SECONDS", 0.001)


def recent(url, token, path=""):
    return Cluster(Endpoint(endpoint=url + path, token=token, namespace="team-a")).recent()


def test_within_the_cluster_a_token_must_be_meant_for_pipelines():
    with running(InCluster(KfpServer())) as url:
        assert recent(url, service_account_token(AUDIENCE)) == []
        with pytest.raises(ClusterError, match=f"--audience {AUDIENCE}"):
            recent(url, ANY)


def test_behind_the_dashboard_the_gateway_reads_a_token_of_any_audience():
    with running(Dashboard(KfpServer(), ISSUER)) as url:
        assert recent(url, ANY, "/pipeline") == []


def test_behind_the_dashboard_the_ui_tells_the_version():
    with running(Dashboard(KfpServer(), ISSUER)) as url:
        cluster = Cluster(Endpoint(endpoint=f"{url}/pipeline", token=ANY))
        assert cluster.server_version() == "2.17.0"


def test_behind_the_dashboard_the_issuer_must_be_one_that_the_gateway_knows():
    dashboard = Dashboard(KfpServer(), "http://dex.auth.svc.cluster.local:5556/dex")
    with running(dashboard) as url, pytest.raises(ClusterError, match="RequestAuthentication"):
        recent(url, ANY, "/pipeline")


def test_an_endpoint_without_the_path_is_answered_with_a_page_and_named():
    with running(Dashboard(KfpServer(), ISSUER)) as url:
        cluster = Cluster(Endpoint(endpoint=url, token=ANY))
        with pytest.raises(ClusterError, match="ends in /pipeline"):
            cluster.server_version()
