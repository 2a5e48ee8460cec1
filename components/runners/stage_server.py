"""The process whose children the stages of a local run are: it imports once what all of them need.

A stage that started alone would import PyTorch, Feast and the rest for seconds each time. This one
imports what a stage needs and forks, so that a stage still has a process of its own and a crash of
one leaves the others be; while the stage works, it imports what the later ones need. It reads a
request a line and answers with an exit status:
`python -m components.runners.stage_server <descriptor to answer on>`.

Importing starts no thread that a child would miss, and no work on a GPU, whose driver would not
survive a fork.
"""

import ast
import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from kfp.dsl.executor_main import executor_main

COMPONENTS = Path(__file__).parents[1]
# Of libraries that import these at their first use: seconds, and for every stage again.
IMPORTED_AT_USE = ("torch._dynamo", "sklearn.isotonic")


def imported_within(source: str) -> list[str]:
    """The modules that the functions of this source import as they run."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.col_offset:
            names.append(node.module)
        elif isinstance(node, ast.Import) and node.col_offset:
            names += [alias.name for alias in node.names]
    return names


def serve(answers: int) -> None:
    """Run one component per line of stdin: `{"source": ..., "arguments": [...]}`."""
    later = [
        *IMPORTED_AT_USE,  # last, as they are taken from the end
        *(
            name
            for path in sorted(COMPONENTS.glob("*.py"))
            for name in imported_within(path.read_text())
        ),
    ]
    with os.fdopen(answers, "w") as out, tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            request = json.loads(line)
            module = Path(folder) / "ephemeral_component.py"
            module.write_text(request["source"])
            for name in imported_within(request["source"]):
                importlib.import_module(name)
            child = os.fork()
            if child == 0:
                _run(module, request["arguments"])
            print(_import_while_running(child, later), file=out, flush=True)


def _import_while_running(child: int, later: list[str]) -> int:
    """Wait for this process, use the time to import, and return its exit status."""
    while later:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        importlib.import_module(later.pop())
    else:
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(module: Path, arguments: list[str]) -> None:
    """Be the stage, and never return."""
    status = 1
    try:
        os.environ["_KFP_RUNTIME"] = "true"
        sys.argv = ["executor_main", "--component_module_path", str(module), *arguments]
        executor_main()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
