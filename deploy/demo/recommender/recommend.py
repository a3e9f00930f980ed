"""Ranks topics for one reader and prints where to read about the best three."""

import numpy
from searchor import Engine

TOPICS = ("forecasting", "inference", "optimisation", "regression", "clustering", "sampling", "calibration", "ranking")

if __name__ == "__main__":
    taste = numpy.linspace(0.0, 1.0, 8)
    topics = numpy.cos(numpy.outer(numpy.arange(1, len(TOPICS) + 1), taste))
    for best in numpy.argsort(topics @ taste)[::-1][:3]:
        print(Engine.Wikipedia.search(TOPICS[best], open_web=False, copy_url=False))
