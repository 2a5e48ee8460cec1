"""BentoML's own endpoint with its defaults: `bentoml serve ...peers.bentoml_service:Peer`."""

from typing import Any

import bentoml


@bentoml.service(workers=2)
class Peer:
    """Everything but the number of workers is BentoML's default."""

    def __init__(self) -> None:
        from benchmarks.serving.peers.ranking import Ranker

        self.ranker = Ranker()

    @bentoml.api
    def recommend(self, user_id: str, recent_items: list[str], k: int = 10) -> dict[str, Any]:
        """The best next items."""
        return {"items": self.ranker.rank(recent_items, k)}
