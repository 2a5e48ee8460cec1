"""Which histories a quick run learns from."""

from sasrec.training.refresh import replayed
from tests.sasrec.small_sequences import packed

HISTORIES = packed([[1, 2], [3], [4, 5, 6], [7]], timestamps=[10, 20, 11, 5, 15, 30, 12])


def test_whoever_has_something_new_is_learned_from_whole():
    chosen = replayed(HISTORIES, since=15, share=0)
    assert [items.tolist() for items in chosen] == [[1, 2], [4, 5, 6]]
    assert len(replayed(HISTORIES, since=15, share=1)) == len(HISTORIES)


def test_a_share_of_the_others_is_replayed_the_same_on_every_run():
    many = packed([[1, 2]] * 1000)
    first, again = (replayed(many, since=10**6, share=0.2, seed=3) for _ in range(2))
    assert 150 < len(first) < 250
    assert first.timestamps.tolist() == again.timestamps.tolist()
