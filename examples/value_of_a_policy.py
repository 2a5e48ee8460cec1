"""What another policy would have earned, from a log with propensities alone.

`python examples/value_of_a_policy.py`. A shop showed one of three banners, mostly the first, and
logged with which probability it chose each. Nobody has tried "always the third".
"""

import numpy as np

from sasrec.off_policy.estimators import LoggedSlots, estimate

CLICK_RATES = np.array([0.05, 0.08, 0.15])  # the truth, which no log tells
LOGGING = np.array([0.8, 0.1, 0.1])
WANTED = np.array([0.0, 0.0, 1.0])

generator = np.random.default_rng(0)
shown = generator.choice(3, size=20_000, p=LOGGING)
clicked = (generator.random(len(shown)) < CLICK_RATES[shown]).astype(float)

found = estimate(
    LoggedSlots(
        user=np.arange(len(shown)),
        position=np.zeros(len(shown), dtype=np.int64),
        reward=clicked,
        propensity=LOGGING[shown],
        target=WANTED[shown],
    ),
    policy="always the third",
)
print(f"what was logged earned {found.logged.value:.4f} a slot")
name, value = found.best
interval = f"{value.low:.4f} to {value.high:.4f}"
print(f"always the third would have earned {value.value:.4f} ({interval}, {name})")
print("do not trust it:" if found.refusals else "nothing speaks against it", *found.refusals)
