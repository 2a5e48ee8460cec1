"""The document that a cluster is given runs here too: from its YAML, not from our Python.

What the platform settings point it at is simulated: a Pushgateway, and a Kubernetes API server with
one Deployment.
"""

import io
from pathlib import Path

import pytest
import yaml
from kfp import components as kfp_components
from rich.console import Console
from small_site import QUICK, Site
from typer.testing import CliRunner

import pipeline
from components.runners.local import run_local
from components.support.image import IMAGE
from components.support.settings import build_config
from components.support.stage import STAGES, read_stages
from serving.registry import ModelStore
from tests.json_server import running
from tests.pushgateway import Pushgateway
from tests.serving import kubernetes_server

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def gateway():
    """A Pushgateway and its address."""
    gateway = Pushgateway()
    with running(gateway) as url:
        yield gateway, url.removeprefix("http://")


@pytest.fixture
def kubernetes(tmp_path):
    """A cluster that serves the champion of the site, and the kubeconfig that reaches it."""
    models = ModelStore(tmp_path / "home" / "models")

    def served(image):
        champion = {"model_version": models.aliases().champion, "items": [{"item_id": "i"}]}
        return 200, {**champion, "degraded": None}

    cluster = kubernetes_server.Cluster(served=served)
    with running(cluster) as url:
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        yield cluster, url, str(tmp_path / "kubeconfig")


def test_the_compiled_documents_run_from_their_file_to_a_served_model(
    tmp_path, gateway, kubernetes
):
    pushgateway, address = gateway
    cluster, url, kubeconfig = kubernetes
    site = Site.create(tmp_path)
    platform = yaml.safe_load(Path("deploy/platform.yaml").read_text())
    platform |= {
        "pushgateway": address,
        "serving_namespace": "sasrec",
        "secrets": [],
        "environment": {
            "OMP_NUM_THREADS": "1",
            "KUBECONFIG": kubeconfig,
            "SASREC_ROLLOUT_URL": url,
            "SASREC_ROLLOUT_POLL_SECONDS": "0.05",
        },
    }
    (tmp_path / "platform.yaml").write_text(yaml.safe_dump(platform))
    package = tmp_path / "pipeline.yaml"
    compiled = CliRunner().invoke(
        pipeline.app,
        ["compile", "--output", str(package), "--platform", str(tmp_path / "platform.yaml")],
    )
    assert compiled.exit_code == 0, compiled.output

    from_file = kfp_components.load_component_from_file(str(package))
    config = build_config(
        overrides=QUICK,
        sections={"data": {"dataset": str(tmp_path / "shop")}},
        gates=tmp_path / "gates.yaml",
    )
    run_dir = site.run_dir("compiled")
    summary = run_local(from_file, config, site.home, run_dir, Console(file=io.StringIO()))

    assert summary["deployed"] is True
    assert list(read_stages(run_dir)) == list(STAGES)
    assert ModelStore(site.home / "models").aliases().champion == summary["model_version"]
    assert cluster.image == IMAGE
    [pushed] = pushgateway.received  # by the exit handler
    assert pushed == "/metrics/job/sasrec-pipeline/outcome/deployed"
    assert (site.home / "pipeline_metrics/deployed.prom").exists()
