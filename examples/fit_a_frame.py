"""From a data frame to recommendations: `python examples/fit_a_frame.py`."""

import tempfile

import pandas as pd

import sasrec

# People who go round fifty films in the same direction, each from a start of their own.
frame = pd.DataFrame(
    {
        "user_id": f"user-{user}",
        "item_id": f"film-{(user + step) % 50}",
        "timestamp": 1_700_000_000 + 3600 * step,
    }
    for user in range(150)
    for step in range(8)
)

recommender = sasrec.fit(frame, dim=32, epochs=30)
print("after film-3, film-4:", recommender.recommend(["film-3", "film-4"], k=3))
print("for user-7:", recommender.recommend("user-7", k=3))

with tempfile.TemporaryDirectory() as folder:
    recommender.save(folder)  # safetensors and JSON, nothing pickled
    again = sasrec.Recommender.load(folder)
    print("loaded again:", again.recommend(["film-3", "film-4"], k=3))
