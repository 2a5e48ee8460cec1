"""The BentoML service: one service around the application of `serving.api.app`.

BentoML 1.4.39 brings process supervision, readiness and Bentos. What it does per request is kept
out of the way: its metrics label raw paths and its access log names them (both off), it has no
body limit and no authentication (ours), its timeout holds a timer per request (kept short), and it
opens three tracing spans per request even when nothing exports them (no path is traced).
"""

import atexit
import os
import sys
from contextlib import ExitStack

import bentoml

from feature_repo.temporary import own_temporary_files
from serving.api.app import create_app
from serving.registry.bento import unpack
from serving.release.lifetime import end_with_parent
from serving.settings import load_settings

SUPERVISOR = "SASREC_SUPERVISOR_PID"

# Workers have sessions of their own: those of a killed supervisor would keep its port.
if bentoml.server_context.worker_index is None:
    os.environ[SUPERVISOR] = str(os.getpid())
    supervised = ExitStack()
    supervised.enter_context(own_temporary_files())
    atexit.register(supervised.close)
else:
    end_with_parent()
    if os.getppid() != int(os.environ[SUPERVISOR]):
        sys.exit("the supervisor is gone")
settings = load_settings()
if version := unpack(settings.home / "models"):
    settings = settings.model_copy(update={"model_version": version})
app = create_app(settings)


@bentoml.service(
    name="sasrec",
    workers=settings.workers,
    traffic={"timeout": 10},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": "."},
)
@bentoml.asgi_app(app, path="/")
class Recommender:
    """Next-item recommendations with logged propensities."""
