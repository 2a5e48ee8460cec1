"""A list that shifts with the user's newest action: `python examples/serve_and_shift.py`.

A model is trained, registered and served by a real server on a free port. A user who nobody knows
asks, clicks, and asks again.
"""

import tempfile
from pathlib import Path

import httpx
import pandas as pd

import sasrec
from serving.registry import ModelStore
from serving.release.processes import running_server
from serving.security import create_keys

FILMS = 40


def sessions() -> pd.DataFrame:
    """Users who go round the films in order, each from a start of their own."""
    return pd.DataFrame(
        {
            "user_id": f"user-{user}",
            "item_id": f"film-{(user + step) % FILMS}",
            "timestamp": 1_700_000_000 + 3600 * step,
        }
        for user in range(120)
        for step in range(12)
    )


with tempfile.TemporaryDirectory() as folder:
    home, model = Path(folder) / "home", Path(folder) / "model"
    sasrec.fit(sessions(), dim=32, epochs=30).save(model)
    store = ModelStore(home / "models")
    store.promote(store.register(model, metadata={}), why="an example")
    key = create_keys(home / "api_keys.json").admin[0]
    settings = {"SASREC_API_KEYS": str(home / "api_keys.json"), "SASREC_EPSILON": "0"}
    with (
        running_server(home, log=Path(folder) / "server.log", settings=settings) as url,
        httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False
        ) as client,
    ):

        def recommended() -> list[str]:
            """The list of a user, as a site's page asks for it."""
            answer = client.post("/v1/recommend", json={"user_id": "newcomer", "k": 3})
            return [item["item_id"] for item in answer.raise_for_status().json()["items"]]

        print("before:", recommended())
        click = {"event_id": "click-1", "user_id": "newcomer", "item_id": "film-7"}
        client.post("/v1/events", json=click).raise_for_status()
        print("after film-7:", recommended())
