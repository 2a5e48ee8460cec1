"""The storefront's items: lines of products that are bought in an order, some launched late."""

from dataclasses import dataclass

import numpy as np

# Each category sells the same ten kinds of thing in several lines; a line is collected in order.
_KINDS = {
    "Coffee": (
        "Pour-Over Kettle|Hand Grinder|Dripper|Filter Set|Scale|"
        "Carafe|Tasting Cups|Canister|Milk Frother|Espresso Maker"
    ),
    "Baking": (
        "Mixing Bowl|Whisk|Bread Tin|Proofing Basket|Dough Scraper|"
        "Rolling Pin|Pastry Brush|Cooling Rack|Cake Stand|Pie Dish"
    ),
    "Garden": (
        "Seed Box|Trowel|Watering Can|Planter|Pruning Shears|"
        "Trellis|Garden Gloves|Compost Pail|Bird Feeder|Lantern"
    ),
    "Desk": (
        "Notebook|Fountain Pen|Pen Tray|Desk Lamp|Blotter|"
        "Letter Rack|Bookends|Monitor Riser|Desk Clock|Paper Tray"
    ),
    "Cycling": (
        "Bell|Bottle Cage|Saddle Bag|Front Light|Rear Light|"
        "Handlebar Tape|Pannier|Track Pump|Helmet|Mudguards"
    ),
    "Camping": (
        "Tent|Sleeping Mat|Sleeping Bag|Camp Stove|Mess Kit|"
        "Headlamp|Water Filter|Camp Chair|Hammock|Cool Box"
    ),
    "Music": (
        "Tuner|Metronome|Guitar Strap|Capo|String Set|"
        "Music Stand|Pick Case|Slide|Practice Amp|Pedal Board"
    ),
    "Painting": (
        "Sketch Pad|Pencil Set|Brush Roll|Watercolours|Palette|"
        "Easel|Canvas Pack|Gouache Set|Varnish|Frame"
    ),
    "Sewing": (
        "Needle Case|Thread Set|Shears|Pin Cushion|Tape Measure|"
        "Pattern Book|Dress Form|Button Tin|Thimble|Project Bag"
    ),
    "Running": (
        "Cap|Socks|Shorts|Belt|Wind Jacket|Water Bottle|Gloves|Trail Shoes|Foam Roller|Race Bag"
    ),
}
_LINES = ["Alder", "Birch", "Cedar", "Fjord", "Harbour"]

# Log-odds that having met an item adds to the next seven of its line, by steps ahead ...
_NEXT_IN_LINE = {ahead: 2.6 * 0.75 ** (ahead - 1) for ahead in range(1, 8)}
# ... and to the same step of a companion line, mostly of another category.
_COMPANION = 2.0


@dataclass(frozen=True)
class Catalogue:
    """I items in C categories.

    Attributes:
        title, category: I strings each.
        category_index: (I,) int, in 0..C-1.
        appeal: (I,) log-odds that everyone shares: what makes an item popular.
        launch_day: (I,) int, the first day on which the item exists.
        follows: (I, I) float32; `follows[i, j]` is what having met i adds to the log-odds of j.
    """

    title: list[str]
    category: list[str]
    category_index: np.ndarray
    appeal: np.ndarray
    launch_day: np.ndarray
    follows: np.ndarray

    def __len__(self) -> int:
        return len(self.title)

    @classmethod
    def generate(cls, rng: np.random.Generator, *, days: int) -> "Catalogue":
        """Ten categories x five lines x ten kinds; one item in five is launched on the way."""
        kinds = [text.split("|") for text in _KINDS.values()]
        steps = len(kinds[0])
        lines = [(c, line) for c in range(len(_KINDS)) for line in range(len(_LINES))]
        items = [(c, line, step) for c, line in lines for step in range(steps)]
        names = list(_KINDS)
        late = rng.random(len(items)) < 0.2
        launch_day = np.where(late, rng.integers(1, int(0.9 * days), len(items)), 0)
        return cls(
            title=[f"{_LINES[line]} {kinds[c][step]}" for c, line, step in items],
            category=[names[c] for c, _, _ in items],
            category_index=np.array([c for c, _, _ in items]),
            appeal=rng.normal(0, 0.8, len(items)),
            launch_day=launch_day,
            follows=_follows(len(lines), steps, rng),
        )


def _follows(lines: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Within a line the next steps follow; a step also calls for that of a companion line."""
    companion = rng.permutation(lines)
    follows = np.zeros((lines, steps, lines, steps), dtype=np.float32)
    for line in range(lines):
        for step in range(steps):
            for ahead, weight in _NEXT_IN_LINE.items():
                follows[line, step, line, (step + ahead) % steps] += weight
            follows[line, step, companion[line], step] += _COMPANION
    return follows.reshape(lines * steps, lines * steps)
