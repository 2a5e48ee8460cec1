"""Why a worker does not answer. Without imports: the supervisor reads this file too."""


class Busy(RuntimeError):
    """The queue is as long as the deadline allows; try again."""


class HistoryAway(RuntimeError):
    """The online history cannot be read now."""
