import pytest

from components.support import threads


@pytest.mark.parametrize(("events", "count"), [(1000, 1), (199_999, 1), (200_000, 6)])
def test_small_trainings_have_one_thread_and_others_what_is_granted(monkeypatch, events, count):
    monkeypatch.setattr(threads, "cores", lambda: 6)
    assert threads.training_threads(events) == count
