"""Two hosts on one machine train as one process would, and a host that is lost changes nothing.

A host is a network namespace with its own name, address and processes; a cable (veth) joins two.
Each runs the command of the TrainJob that `train` submits, with the variables that Kubeflow Trainer
sets; when one fails, both are started again, as the JobSet of a TrainJob does it. Nothing of
Kubernetes itself runs here.

    python -m benchmarks.two_hosts        needs root and `ip` (Debian: apt install iproute2)
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer

from benchmarks.provenance import provenance
from components.nodes.train_job_manifest import node_command
from components.nodes.train_node import RESULT, train_in, write_work
from components.support.settings import RunConfig, build_config
from sasrec.data.cleaning import clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time
from sasrec.training.checkpoint import FILE as CHECKPOINT

JOB = "sasrec-train"
RESTARTS_OF_A_JOB = 3
# Dropout off: each process would drop its own units. No early stop, so that lengths agree. Smooth
# and in small steps: with ReLU and large ones, rounding alone moves a loss by 1 % within 20 epochs,
# as the control (one process, two threads) shows as well.
SETTINGS = (
    "model.dim=32",
    "model.blocks=1",
    "model.dropout=0.0",
    "model.feed_forward=swiglu",
    "model.max_length=50",
    "train.batch_tokens=1024",
    "train.learning_rate=0.001",
    "train.patience=1000",
)


def missing() -> str:
    """What this machine lacks to have two hosts; empty when nothing."""
    if os.geteuid() != 0:
        return "two hosts are network namespaces, which need root"
    lacking = [tool for tool in ("ip", "unshare", "setpriv", "mount") if shutil.which(tool) is None]
    if lacking:
        return f"two hosts need `{lacking[0]}` (Debian: apt install iproute2 util-linux)"
    probe = subprocess.run(["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "true"])
    return "" if probe.returncode == 0 else "this machine does not allow network namespaces"


@dataclass
class Host:
    """A host and the torchrun that runs on it."""

    name: str
    namespace: str
    environment: dict[str, str]
    hosts_file: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str]) -> None:
        """Run `command` here, in a process namespace: to kill the host is to kill all of it."""
        enter = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace]
        enter += ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL"]
        enter += ["--mount-proc", "sh", "-c"]
        script = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*enter, script, "sh", str(self.hosts_file), self.name, *command],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )

    def workers(self) -> list[psutil.Process]:
        """The processes that train: those below torchrun."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in family if not process.children()]

    def ended(self) -> int | None:
        """The exit status; None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def kill(self) -> None:
        """End the host at once, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def two_hosts(folder: Path) -> Iterator[list[Host]]:
    """Two joined hosts whose names resolve as those of a TrainJob's pods do."""
    names = [f"{JOB}-node-0-{rank}" for rank in range(2)]
    namespaces = [f"sasrec-{os.getpid()}-{rank}" for rank in range(2)]
    hosts_file = folder / "hosts"
    lines = [f"10.77.0.{rank + 1} {name}.{JOB} {name}" for rank, name in enumerate(names)]
    hosts_file.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    hosts = [
        Host(name, namespace, _pod_environment(rank), hosts_file, folder / f"{name}.log")
        for rank, (name, namespace) in enumerate(zip(names, namespaces, strict=True))
    ]
    try:
        for namespace in namespaces:
            _ip("netns", "add", namespace)
        _ip(
            *("link", "add", "eth0", "netns", namespaces[0]),
            *("type", "veth", "peer", "name", "eth0", "netns", namespaces[1]),
        )
        for rank, namespace in enumerate(namespaces):
            _ip("-n", namespace, "address", "add", f"10.77.0.{rank + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
        yield hosts
    finally:
        for host in hosts:
            if host.process is not None and host.process.poll() is None:
                host.kill()
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _pod_environment(rank: int) -> dict[str, str]:
    """What Trainer's torch plugin and the image set in a pod."""
    return {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": f"{JOB}-node-0-0.{JOB}",
        "PET_MASTER_PORT": "29500",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path.cwd()),
    }


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@dataclass
class Trained:
    """A training and what it went through.

    Attributes:
        losses: the mean loss of each epoch.
        restarts: how often both hosts were started again.
        lost: what was killed, when, and how long until an epoch more was done than before.
    """

    losses: list[float]
    ndcg: list[float]
    seconds: float
    restarts: int = 0
    lost: dict[str, Any] | None = None


def train_on_one(work: Path, folder: Path, *, threads: int = 1) -> Trained:
    """Train in one process, which is this one."""
    shutil.copytree(work, folder)
    torch.set_num_threads(threads)
    started = time.monotonic()
    train_in(folder)
    return _read(folder, time.monotonic() - started)


def train_on_two(
    work: Path,
    folder: Path,
    lose: Callable[[list[Host]], str] | None = None,
    *,
    node: str = "components.nodes.train_node",
    timeout_seconds: float = 400,
) -> Trained:
    """Train on two hosts; both are started again when one fails.

    Args:
        lose: kills something, once there is a checkpoint; says what.
        node: the module that each process runs.
    """
    shutil.copytree(work, folder)
    logs = folder.with_name(f"{folder.name}-logs")
    logs.mkdir()
    words = node_command(JOB, folder)
    words[words.index("components.nodes.train_node")] = node
    command = [_as_in_a_pod(word) for word in words]
    started = time.monotonic()
    lost: dict[str, Any] | None = None
    restarts, killed, further = 0, 0.0, 0.0
    with two_hosts(logs) as hosts:
        for host in hosts:
            host.start(command)
        while any(host.ended() != 0 for host in hosts):
            if time.monotonic() - started > timeout_seconds:
                raise TimeoutError(f"not trained after {timeout_seconds} s; see {logs}")
            if any(host.ended() not in (None, 0) for host in hosts):
                if restarts == RESTARTS_OF_A_JOB:
                    raise RuntimeError(f"failed {restarts + 1} times; see {logs}")
                restarts += 1
                for host in hosts:
                    host.kill()
                for host in hosts:
                    host.start(command)
            if lose and lost is None and _is_resumable(folder):
                lost = {"after_epochs": _epochs(folder), "what": lose(hosts)}
                killed = time.monotonic()
            if lost and not further and _epochs(folder) > lost["after_epochs"] + 1:
                further = lost["seconds_until_further"] = round(time.monotonic() - killed, 2)
            time.sleep(0.05)
        trained = _read(folder, time.monotonic() - started)
    trained.restarts, trained.lost = restarts, lost
    return trained


def _as_in_a_pod(word: str) -> str:
    """Kubernetes fills in variables of the container."""
    for variable, value in _pod_environment(0).items():
        word = word.replace(f"$({variable})", value)
    return word


def kill_a_worker(hosts: list[Host]) -> str:
    """SIGKILL the training process of the second host; its torchrun lives."""
    [worker] = hosts[1].workers()
    worker.send_signal(signal.SIGKILL)
    return "the training process of host 1"


def kill_a_host(hosts: list[Host]) -> str:
    """Lose the second host with all its processes."""
    hosts[1].kill()
    return "host 1"


def kill_the_first_host(hosts: list[Host]) -> str:
    """Lose the host that holds the rendezvous and writes the checkpoint."""
    hosts[0].kill()
    return "host 0, which holds the rendezvous"


def _epochs(folder: Path) -> int:
    log = folder / "train.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def _is_resumable(folder: Path) -> bool:
    return (folder / CHECKPOINT).exists() and _epochs(folder) >= 2


def _read(folder: Path, seconds: float) -> Trained:
    assert (folder / RESULT).exists()
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return Trained(
        [line["loss"] for line in lines], [line["ndcg@10"] for line in lines], round(seconds, 2)
    )


def write_small_work(folder: Path, *, users: int, epochs: int) -> RunConfig:
    """The simulated storefront, packed, and settings, as the launcher of a TrainJob leaves them."""
    source, _ = clean(Storefront(seed=1, users=users, days=30).source())
    folds = global_time(source.interactions)
    histories = histories_before(source.interactions, folds.cutoffs)
    dataset = SequenceDataset.from_histories(folds, histories)
    config = build_config(overrides=[*SETTINGS, f"train.epochs={epochs}"])
    with tempfile.TemporaryDirectory() as scratch:
        dataset.save(Path(scratch))
        write_work(folder, config.model_dump_json(), Path(scratch))
    return config


def difference(losses: list[float], reference: list[float]) -> float:
    """The largest relative difference of an epoch's loss."""
    pairs = zip(losses, reference, strict=True)
    return max(abs(loss - expected) / expected for loss, expected in pairs)


def main(
    users: int = 300,
    epochs: int = 30,
    output: Annotated[Path, typer.Option()] = Path("benchmarks/results/two_hosts.json"),
) -> None:
    """Train on one process, on two hosts, and on two hosts of which something is lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if problem := missing():
        raise SystemExit(f"error: {problem}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_small_work(folder / "work", users=users, epochs=epochs)
        one = train_on_one(folder / "work", folder / "one")
        control = train_on_one(folder / "work", folder / "control", threads=2)
        two = {"nothing lost": train_on_two(folder / "work", folder / "two")}
        for lose in (kill_a_worker, kill_a_host, kill_the_first_host):
            trained = train_on_two(folder / "work", folder / lose.__name__, lose)
            assert trained.lost is not None, f"{lose.__name__}: the training was over before"
            two[f"lost: {trained.lost['what']}"] = trained
    result: dict[str, Any] = {
        "provenance": provenance(),
        "model": config.model.model_dump(),
        "train": config.train.model_dump(),
        "users": users,
        "one process": {"seconds": one.seconds, "losses": one.losses, "ndcg@10": one.ndcg},
        "one process, two threads": {
            "largest relative difference of a loss to one thread": difference(
                control.losses, one.losses
            ),
            "losses": control.losses,
        },
        "two hosts": {
            label: {
                "largest relative difference of a loss to one process": difference(
                    trained.losses, one.losses
                ),
                "losses equal those of two hosts without a loss": trained.losses
                == two["nothing lost"].losses,
                "restarts of both hosts": trained.restarts,
                "lost": trained.lost,
                "seconds": trained.seconds,
                "losses": trained.losses,
                "ndcg@10": trained.ndcg,
            }
            for label, trained in two.items()
        },
    }
    output.write_text(json.dumps(result, indent=2) + "\n")
    for label, row in result["two hosts"].items():
        shown = {k: v for k, v in row.items() if k not in ("losses", "ndcg@10")}
        typer.echo(f"{label}: {json.dumps(shown)}")


if __name__ == "__main__":
    typer.run(main)
