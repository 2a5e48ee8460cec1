"""What the compiled documents alone show."""

import json
import re
from collections.abc import Iterator

from components.runners.doctor.finding import Finding, bad, ok
from components.runners.doctor.target import Target
from sasrec.errors import SettingsError

_SECRET_NAME = re.compile(r"PASSW(OR)?D|PASSPHRASE|TOKEN|SECRET|API_KEY|PRIVATE_KEY|CONNECTION")
_SECRET_VALUE = re.compile(r"://[^/\s:@]*:[^/\s@]+@|\bpassword=\S", re.IGNORECASE)
"""A URL with a password in it, or Feast's form of Redis."""
_PLACEHOLDERS = ("{{$.pipeline_job_schedule_time_utc}}", "{{$.pipeline_job_uuid}}")


def run_identity(target: Target) -> Iterator[Finding]:
    """Each run must learn its time and id, which Kubeflow fills in as constants of their own."""
    text = json.dumps(target.specification)
    if "[[" in json.dumps(target.specification["root"].get("inputDefinitions", {})):
        yield bad(
            "run identity",
            "a parameter has a [[macro]], which Kubeflow leaves as it is in a schedule",
            "compile with this version of pipeline.py",
        )
    elif missing := [name for name in _PLACEHOLDERS if json.dumps(name)[1:-1] not in text]:
        yield bad(
            "run identity",
            f"no task is given {missing[0]}, so all runs share a folder",
            "compile with this version of pipeline.py",
        )
    else:
        yield ok("run identity", "time and id of a run are filled in by Kubeflow")


def image(target: Target) -> Iterator[Finding]:
    """A node must be able to pull it, and the same one every time."""
    for name in sorted({container["image"] for container in target.containers.values()}):
        registry, _, _ = name.partition("/")
        if "/" not in name or not ({".", ":"} & set(registry) or registry == "localhost"):
            yield bad(
                "image",
                f"{name} names no registry",
                "push it, then export SASREC_IMAGE=registry.example.com/sasrec-pipeline@sha256:...",
            )
        elif "@sha256:" not in name:
            yield bad(
                "image",
                f"{name} is a tag, which may be another image tomorrow",
                "export SASREC_IMAGE with the digest that `docker push` prints",
            )
        else:
            yield ok("image", name)


def volume(target: Target) -> Iterator[Finding]:
    """All stages meet on the site's volume."""
    without = [name for name, pod in target.pods.items() if not pod.get("pvcMount")]
    without += sorted(target.containers.keys() - target.pods.keys())
    if without:
        yield bad("volume mount", f"{without[0]} mounts no volume", "compile with --platform")
    else:
        yield ok("volume mount", f"{target.platform.volume_claim} in every pod")


def retries(target: Target) -> Iterator[Finding]:
    """Argo counts a stage's time from its first attempt, so all attempts must fit."""
    for name, task in _tasks(target):
        if (policy := task.get("retryPolicy")) is None:
            continue
        pod = target.pods.get(f"exec-{name}", {})
        limit = int(pod.get("activeDeadlineSeconds", 0)) * (int(policy["maxRetryCount"]) + 1)
        window = int(policy.get("backoffMaxDuration", "0s").removesuffix("s"))
        if window < limit:
            yield bad(
                "retries",
                f"{name}: given up {window} s after its first attempt began, but its attempts may "
                f"take {limit} s",
                "compile with this version of pipeline.py",
            )
            return
    yield ok("retries", "all attempts of a stage fit into Argo's maxDuration")


def plain_secrets(target: Target) -> Iterator[Finding]:
    """Everybody who sees the pipeline in the UI sees its documents."""
    for name, container in target.containers.items():
        for entry in container.get("env", []):
            name_says = _SECRET_NAME.search(entry["name"].upper())
            if name_says or _SECRET_VALUE.search(entry.get("value", "")):
                yield bad(
                    "secret values",
                    f"{name}: {entry['name']} is written into the pipeline",
                    "move it from `environment` to `secrets` in the platform settings",
                )
                return
    yield ok("secret values", "none is in the pipeline")


def smoke_test_key(target: Target) -> Iterator[Finding]:
    """Serving answers nobody without a key, so a rollout without one is always taken back."""
    if target.platform.serving_namespace is None:
        return
    if "SASREC_ROLLOUT_API_KEY" in target.secret_variables:
        yield ok("smoke test's key", "by Secret")
    else:
        yield bad(
            "smoke test's key",
            "serving_namespace is set, but deploy has no key, and serving would refuse it",
            "serving_key in the platform settings, and `python -m serving.create_keys`",
        )


def feature_profile(target: Target) -> Iterator[Finding]:
    """All pods and hosts must meet in the same stores: what `submit` wants too."""
    try:
        profile = target.platform.shared_profile()
    except SettingsError as error:
        said, _, fix = str(error).partition("; ")
        yield bad("feature profile", said, fix)
    else:
        yield ok("feature profile", profile)


def _tasks(target: Target) -> Iterator[tuple[str, dict]]:
    levels = [target.specification["root"], *target.specification["components"].values()]
    for level in levels:
        yield from level.get("dag", {}).get("tasks", {}).items()


CHECKS = (run_identity, image, volume, retries, plain_secrets, smoke_test_key, feature_profile)
