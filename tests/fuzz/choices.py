"""Random decisions that are the same on every machine and every version of Python and NumPy.

Decisions come from `random.Random(text).random()`, numbers from `numpy.random.RandomState`: both streams
are frozen. Nothing depends on hashes, the order of sets, time or earlier graphs.
"""

import random

import numpy as np


class Choices:
    """A stream of decisions that the key determines."""

    def __init__(self, *key):
        self._stream = random.Random(":".join(map(str, key)))

    def chance(self, probability):
        return self._stream.random() < probability

    def integer(self, low, high):
        """An integer in ``low <= i < high``."""
        return low + int(self._stream.random() * (high - low))

    def pick(self, options, weights=None):
        """One of ``options``; a mapping gives its values as weights, and a key is picked."""
        if isinstance(options, dict):
            options, weights = list(options), list(options.values())
        weights = [1.0] * len(options) if weights is None else list(weights)
        assert len(weights) == len(options), (options, weights)
        at = self._stream.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            at -= weight
            if at < 0:
                return option
        return options[-1]

    def one_of(self, *thunks):
        """The value of one of the functions, of which only that one is called."""
        return self.pick(thunks)()

    def shuffled(self, options):
        rest, out = list(options), []
        while rest:
            out.append(rest.pop(self.integer(0, len(rest))))
        return out

    def numbers(self):
        """A stream of numbers."""
        return np.random.RandomState(self.integer(0, 2**32 - 1))
