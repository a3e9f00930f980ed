"""Rules that match nothing: said, with what was probably meant. A rule that is silently about nothing keeps all."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence

from registry_pipelines.collect.rules import RetentionRule, label, matches

WILDCARDS = frozenset("*?[")
MOST_NAMED = 3


def unmatched(rules: Sequence[RetentionRule], repositories: Sequence[str]) -> Iterator[str]:
    """A sentence for each pattern of repositories that matches none. Where a name ends with the pattern, or the other
    way round, a part of the path was taken off twice or not at all (a registry's host, a project, a prefix)."""
    for number, rule in enumerate(rules, 1):
        for pattern in rule.repositories:
            if not any(matches(name, (pattern,)) for name in repositories):
                near = nearest(pattern, repositories)
                hint = f"nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else "none is like it"
                if not repositories:
                    hint = "the registry has no repository"
                yield f"{label(rule, number)} is about nothing: no repository matches {pattern}; {hint}"


class TagPatterns:
    """Whether each pattern of tags matches a tag of the repositories that its rule is about."""

    def __init__(self, rules: Sequence[RetentionRule]) -> None:
        self._rules = rules
        self._open = [
            (number, pattern)
            for number, rule in enumerate(rules, 1)
            for pattern in dict.fromkeys((*rule.tags, *rule.protect))
            if pattern != "*"
        ]

    def see(self, repository: str, tags: Collection[str]) -> None:
        """The tags of one more repository."""
        self._open = [
            (number, pattern)
            for number, pattern in self._open
            if not self._rules[number - 1].covers(repository) or not any(matches(tag, (pattern,)) for tag in tags)
        ]

    def unmatched(self) -> Iterator[str]:
        """A sentence for each pattern that none matched so far."""
        for number, pattern in self._open:
            yield f"{label(self._rules[number - 1], number)}: no tag matches {pattern} where the rule is for"


def nearest(pattern: str, names: Sequence[str]) -> list[str]:
    """Names that a pattern probably meant, the likeliest first, three at most."""
    bare = "".join(each for each in pattern if each not in WILDCARDS).strip("/")
    if not bare:
        return []
    inside = [name for name in names if f"/{name}/".endswith(f"/{bare}/") or f"/{bare}/".endswith(f"/{name}/")]
    begins = [name for name in names if f"/{bare}/" in f"/{name}/"]
    like = difflib.get_close_matches(bare, names, n=MOST_NAMED, cutoff=0.6)
    return list(dict.fromkeys([*sorted(inside), *sorted(begins), *like]))[:MOST_NAMED]
