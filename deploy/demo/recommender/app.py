"""Recommends the titles nearest to what a reader liked, with links to a web search for each."""

from __future__ import annotations

import json

import numpy as np
from searchor import Engine

TITLES = ["Dune", "Emma", "Solaris", "Persuasion", "Neuromancer"]
TASTES = np.array([[0.9, 0.1, 0.2], [0.1, 0.9, 0.3], [0.8, 0.2, 0.4], [0.2, 0.8, 0.2], [0.9, 0.0, 0.1]])


def recommend(liked: str, count: int = 2) -> list[str]:
    """The titles with the highest cosine similarity to ``liked``."""
    unit = TASTES / np.linalg.norm(TASTES, axis=1, keepdims=True)
    likeness = unit @ unit[TITLES.index(liked)]
    return [TITLES[i] for i in np.argsort(-likeness) if TITLES[i] != liked][:count]


if __name__ == "__main__":
    titles = recommend("Dune")
    links = [Engine.DuckDuckGo.search(title) for title in titles]
    print(json.dumps({"model": "recommender", "liked": "Dune", "titles": titles, "links": links}))
