"""CVSS version 4.0 base scores (FIRST, "Common Vulnerability Scoring System version 4.0: Specification Document",
section 8: MacroVectors, their scores, and the interpolation between them).

Only what base metrics can reach is here: exploit maturity counts as "attacked" (EQ5 = 0), the security requirements as
high, and a safety impact (EQ4 = 0) exists in environmental metrics only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# How far each value lies below the worst of its metric, in steps.
_STEPS = {
    "AV": {"N": 0, "A": 1, "L": 2, "P": 3},
    "AC": {"L": 0, "H": 1},
    "AT": {"N": 0, "P": 1},
    "PR": {"N": 0, "L": 1, "H": 2},
    "UI": {"N": 0, "P": 1, "A": 2},
    "VC": {"H": 0, "L": 1, "N": 2},
    "VI": {"H": 0, "L": 1, "N": 2},
    "VA": {"H": 0, "L": 1, "N": 2},
    "SC": {"H": 0, "L": 1, "N": 2},
    "SI": {"H": 0, "L": 1, "N": 2},
    "SA": {"H": 0, "L": 1, "N": 2},
}

# Scores of the MacroVectors: by EQ1 and EQ2; then (EQ3, EQ6) = 00, 01, 10, 11, 21, each with EQ4 = 1 and 2.
_SCORES = {
    (0, 0): ((10, 9.3), (9.6, 9), (9.3, 8.8), (9.2, 8), (7.9, 6.9)),
    (0, 1): ((9.5, 9.2), (9.1, 8.1), (9.2, 8.4), (8.2, 7), (7.1, 6.3)),
    (1, 0): ((9.4, 8.7), (8.9, 7.5), (8.6, 7.2), (7.6, 5.7), (6.5, 5.3)),
    (1, 1): ((9, 7.7), (7.7, 6.6), (7.4, 6.1), (5.9, 5.2), (5.8, 2.3)),
    (2, 0): ((8.6, 7), (7.4, 5.4), (7.2, 5.3), (5.7, 3.6), (4.7, 2.4)),
    (2, 1): ((7.3, 5.4), (5.5, 4.3), (6.1, 4.6), (5.1, 1.8), (2.4, 1)),
}
_PAIRS = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1))

# The worst vectors of each class, in steps, and how many steps the class is deep.
_Class = tuple[list[tuple[int, ...]], int]
_Classes = dict[int, _Class]
_EQ1: _Classes = {
    0: ([(0, 0, 0)], 1),
    1: ([(1, 0, 0), (0, 1, 0), (0, 0, 1)], 4),
    2: ([(3, 0, 0), (1, 1, 1)], 5),
}
_EQ2: _Classes = {0: ([(0, 0)], 1), 1: ([(1, 0), (0, 1)], 2)}
_EQ36: _Classes = {0: ([(0, 0, 0)], 7), 1: ([(1, 0, 0), (0, 1, 0)], 8), 2: ([(1, 1, 1)], 10)}
_EQ4: _Classes = {1: ([(0, 0, 0)], 5), 2: ([(1, 1, 1)], 4)}


def base_score(metrics: Mapping[str, str]) -> float | None:
    """The base score, 0.0 to 10.0. metrics: names and values as in the vector; None when a base metric is missing or
    unknown. Others are ignored."""
    if any(metrics.get(name) not in values for name, values in _STEPS.items()):
        return None
    step = {name: values[metrics[name]] for name, values in _STEPS.items()}
    if all(step[name] == 2 for name in ("VC", "VI", "VA", "SC", "SI", "SA")):
        return 0.0
    eq1, eq2, eq3, eq4 = _classes(step)
    eq6 = 1 if eq3 == 2 else 0
    score = _SCORES[eq1, eq2][_PAIRS.index((eq3, eq6))][eq4 - 1]

    def lower(other1: int, other2: int, other3: int, other4: int, other6: int) -> float | None:
        pairs = _SCORES.get((other1, other2))
        if pairs is None or (other3, other6) not in _PAIRS or other4 > 2:
            return None
        return pairs[_PAIRS.index((other3, other6))][other4 - 1]

    below = [lower(eq1, eq2, eq3, eq4, eq6 + 1), lower(eq1, eq2, eq3 + 1, eq4, eq6)]
    parts = [
        (lower(eq1 + 1, eq2, eq3, eq4, eq6), _share(_EQ1[eq1], [step["AV"], step["PR"], step["UI"]])),
        (lower(eq1, eq2 + 1, eq3, eq4, eq6), _share(_EQ2[eq2], [step["AC"], step["AT"]])),
        (_highest(below), _share(_EQ36[eq3], [step["VC"], step["VI"], step["VA"]])),
        (lower(eq1, eq2, eq3, eq4 + 1, eq6), _share(_EQ4[eq4], [step["SC"], step["SI"], step["SA"]])),
    ]
    there = [(score - value) * share for value, share in parts if value is not None]
    mean = sum(there) / (len(there) + 1)  # the class of exploit maturity has a lower one too, at distance 0
    return int(max(score - mean, 0.0) * 10 + 0.5 + 1e-5) / 10


def _classes(step: Mapping[str, int]) -> tuple[int, int, int, int]:
    """EQ1 to EQ4 (tables 24 to 27)."""
    reach = [step["AV"] == 0, step["PR"] == 0, step["UI"] == 0]
    eq1 = 0 if all(reach) else 1 if any(reach) and step["AV"] != 3 else 2
    eq2 = 0 if step["AC"] == step["AT"] == 0 else 1
    eq3 = 0 if step["VC"] == step["VI"] == 0 else 1 if 0 in (step["VC"], step["VI"], step["VA"]) else 2
    eq4 = 1 if 0 in (step["SC"], step["SI"], step["SA"]) else 2
    return eq1, eq2, eq3, eq4


def _share(group: _Class, steps: list[int]) -> float:
    """How far the steps lie below the first worst vector that is nowhere better, as a share of the class's depth."""
    worst, depth = group
    below = ([mine - theirs for mine, theirs in zip(steps, vector, strict=True)] for vector in worst)
    return sum(next(distances for distances in below if min(distances) >= 0)) / depth


def _highest(scores: Iterable[float | None]) -> float | None:
    return max((score for score in scores if score is not None), default=None)
