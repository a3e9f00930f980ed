"""Why no policy of ECR expires what nobody pulls, and what comes near it.

The console's own example ("expire images that were not pulled for N days") is refused by the API: `sinceImagePulled`
goes with `transition` alone (user guide, "Count type"). The error explains it and writes the rules that there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PULLED_EXPIRES = (
    "sinceImagePulled cannot expire, though the console offers this as an example: the API takes it with a transition "
    "to the archive alone. Beware: a pull by a scanner counts as one, unless its role is excluded "
    "(RegisterPullTimeUpdateExclusion)"
)


def instead(selection: Mapping[str, Any], priority: int, free: int, days: int) -> str:
    """Rules that do what was meant as far as ECR can: to the archive by the last pull, and out of the archive after its
    90 days; and the other way, by the push. free: a priority that no rule has. days: as written, without a pull."""
    chosen = {
        name: value for name, value in selection.items() if name in ("tagStatus", "tagPatternList", "tagPrefixList")
    }
    since = {"countUnit": "days"}
    away = {
        "rulePriority": priority,
        "selection": {**chosen, "countType": "sinceImagePulled", **since, "countNumber": days},
        "action": {"type": "transition", "targetStorageClass": "archive"},
    }
    out = {
        "rulePriority": free,
        "selection": {
            **chosen,
            "storageClass": "archive",
            "countType": "sinceImageTransitioned",
            **since,
            "countNumber": 90,
        },
        "action": {"type": "expire"},
    }
    pushed = {
        "rulePriority": priority,
        "selection": {**chosen, "countType": "sinceImagePushed", **since, "countNumber": days},
        "action": {"type": "expire"},
    }
    return (
        "In place of the rule by the last pull, two rules, which delete at the earliest 90 days later (a pull of an "
        f"archived image answers 404 until it is restored):\n    {json.dumps(away)}\n    {json.dumps(out)}\n  "
        f"or one that does not look at pulls:\n    {json.dumps(pushed)}"
    )
