"""The storefront's visitors: what they want now, what they choose, what they click."""

import numpy as np

from sasrec.data.simulated.catalogue import Catalogue

_MEMORY = 0.95  # what is left of an item's pull after each further event
_INTENT = 2.0  # log-odds for the category that opened the session
_TASTE_SPREAD = 1.2  # standard deviation of the log-odds for a category between users
_TASTE_DRIFT = 0.1  # ... and of its random walk, per session
_CLICK_BASE = -3.6  # log-odds of a click on an item that means nothing to the user, in slot 0
_CLICK_SCALE = 0.7
_POSITION_DECAY = 0.25  # slot p is looked at with probability (1 + p) ** -0.25


class Crowd:
    """U users before the shelves of a catalogue; the only part of the simulation with a state.

    The log-odds of item i for a user who met x_1 .. x_t (newest last) are

        appeal_i + taste[category_i] + 2 [category_i = intent] + sum_j 0.95^(t-j) follows[x_j, i]

    over the items that are launched and that the user has not met. `taste` walks at random from
    session to session; `intent` is the category of the session's first item. All but the taste
    can be read off the history, in order: the older events matter, not the last alone.
    """

    def __init__(self, catalogue: Catalogue, users: int, rng: np.random.Generator) -> None:
        self.catalogue = catalogue
        self.users = users
        self._rng = rng
        categories = int(catalogue.category_index.max()) + 1
        self._taste = rng.normal(0, _TASTE_SPREAD, (users, categories)).astype(np.float32)
        self._intent = np.full(users, -1)
        self._pull = np.zeros((users, len(catalogue)), dtype=np.float32)
        self._met = np.zeros((users, len(catalogue)), dtype=bool)
        self._last = np.full(users, -1)

    def begin_sessions(self, users: np.ndarray) -> None:
        """Let the tastes of `users` (n,) drift, and forget what their last visit was about."""
        drift = self._rng.normal(0, _TASTE_DRIFT, (len(users), self._taste.shape[1]))
        self._taste[users] += drift.astype(np.float32)
        self._intent[users] = -1

    def last_category(self, users: np.ndarray) -> np.ndarray:
        """(n,) category of the newest item of each user, -1 for none."""
        last = self._last[users]
        return np.where(last >= 0, self.catalogue.category_index[last], -1)

    def eligible(self, users: np.ndarray, day: int) -> np.ndarray:
        """(n, I) bool: launched, and not met yet."""
        return ~self._met[users] & (self.catalogue.launch_day <= day)

    def utilities(self, users: np.ndarray) -> np.ndarray:
        """(n, I) log-odds of every item for each user now, launched or not."""
        category = self.catalogue.category_index
        utilities = self._pull[users] + self._taste[users][:, category]
        utilities += self.catalogue.appeal.astype(np.float32)
        utilities += _INTENT * (self._intent[users][:, None] == category)
        return utilities

    def next_item_log_odds(self, users: np.ndarray, day: int) -> np.ndarray:
        """(n, I) whose softmax is the true distribution of the next item each user looks up."""
        return np.where(self.eligible(users, day), self.utilities(users), -np.inf)

    def click_probability(self, users: np.ndarray) -> np.ndarray:
        """(n, I) the true P(interacted | served in slot 0); times `position_bias` elsewhere."""
        return 1 / (1 + np.exp(-(_CLICK_BASE + _CLICK_SCALE * self.utilities(users))))

    def record(self, users: np.ndarray, items: np.ndarray) -> None:
        """Each of `users` (n,), all different, meets one of `items` (n,)."""
        self._pull[users] *= _MEMORY
        self._pull[users] += self.catalogue.follows[items]
        self._met[users, items] = True
        self._last[users] = items
        opening = self._intent[users] < 0
        self._intent[users[opening]] = self.catalogue.category_index[items[opening]]


def position_bias(slots: int) -> np.ndarray:
    """(k,) probability that a user looks at each slot."""
    return (1.0 + np.arange(slots)) ** -_POSITION_DECAY
