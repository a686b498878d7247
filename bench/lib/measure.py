# SPDX-License-Identifier: GPL-2.0-or-later
"""
Medians and ratios.

The speed of a machine wanders by far more than the differences looked for.  So all subjects of a
comparison take turns, each round in another order, and a ratio is taken within each round: what is
reported is the median of those.
"""

import dataclasses
import statistics
import time


def interleave(subjects, runs, note=lambda text: None):
    """Calls each of {name: function} once a round.  Returns {name: [its result in each round]}."""
    names = list(subjects)
    samples = {name: [] for name in names}
    for i in range(runs):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            note(f"{i + 1}/{runs} {name}")
            samples[name].append(subjects[name]())
    return samples


def timed(function, *args):
    """Seconds that a call takes."""
    start = time.monotonic()
    function(*args)
    return time.monotonic() - start


@dataclasses.dataclass
class Row:
    """One line of a table: a figure, and what it should be."""
    figure: str
    value: float
    unit: str = ""              # "": a ratio
    at_least: float = None
    at_most: float = None
    low: float = None           # the middle half of the rounds
    high: float = None

    def passed(self):
        """True, False, or None where there is no target.  The figure counts as it is shown."""
        shown = float(number(self.value))
        if self.at_least is not None:
            return shown >= self.at_least
        if self.at_most is not None:
            return shown <= self.at_most
        return None


def number(value):
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values):
    if len(values) < 3:
        return min(values), max(values)
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return quarters[0], quarters[2]


def row(figure, values, unit="", **target):
    low, high = _spread(values)
    return Row(figure, statistics.median(values), unit, low=low, high=high, **target)


def ratio(figure, above, below, **target):
    """A row from two lists of samples of the same rounds."""
    return row(figure, [a / b for a, b in zip(above, below)], **target)
