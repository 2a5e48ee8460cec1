"""Processes that train side by side and end with the one that began them."""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from serving.release.lifetime import end_with_parent


def workers(count: int) -> ProcessPoolExecutor:
    """A pool; killed, since a training that is asked to end saves and lets its worker go on."""
    return ProcessPoolExecutor(
        count,
        mp_context=get_context("spawn"),
        initializer=end_with_parent,
        initargs=(signal.SIGKILL,),
    )
