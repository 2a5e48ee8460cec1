"""The process whose children the stages of a local run are: it imports once what all of them need.

A stage that started alone would import PyTorch, Feast and the rest for seconds each time. This one
does it while the run begins, and forks per stage, so that a stage still has a process of its own
and a crash of one leaves the others be. It reads a request a line and answers with an exit status:
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
from collections.abc import Iterator
from pathlib import Path

from kfp.dsl.executor_main import executor_main

COMPONENTS = Path(__file__).parents[1]


def imported_by_stages() -> Iterator[str]:
    """The modules that the components import as they run, by their sources."""
    for source in sorted(COMPONENTS.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.col_offset:
                yield node.module
            elif isinstance(node, ast.Import) and node.col_offset:
                yield from (alias.name for alias in node.names)


def serve(answers: int) -> None:
    """Run one component per line of stdin: `{"source": ..., "arguments": [...]}`."""
    for name in dict.fromkeys(imported_by_stages()):
        importlib.import_module(name)
    with os.fdopen(answers, "w") as out, tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            request = json.loads(line)
            module = Path(folder) / "ephemeral_component.py"
            module.write_text(request["source"])
            child = os.fork()
            if child == 0:
                _run(module, request["arguments"])
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), file=out, flush=True)


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
