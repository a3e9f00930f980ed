"""What several steps of one run do in one act, so that each blob leaves its source once.

A target of a release, and a sync, is an asset with a step of its own: its own check, retries and history. Their copies
share blobs, though, and are one plan. So the first such step of a run copies for all that are selected, and each later
one takes its part. Steps run one after the other in one process (the in-process executor of ``definitions``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import dagster as dg

T = TypeVar("T")


class Together(Generic[T]):
    """The outcomes of one run that no step has taken yet, by name."""

    def __init__(self) -> None:
        self._done: set[tuple[str, str]] = set()
        self._outcomes: dict[tuple[str, str], T] = {}

    def take(self, kind: str, name: str, names: Iterable[str], act: Callable[[list[str]], Mapping[str, T]]) -> T:
        """The outcome of one, for once: a step that is tried again does its own anew. names: all of its kind that may
        be done with it, in order. act: does those it is given. Raises what it raises; then nothing counts as done."""
        if (kind, name) not in self._outcomes:
            wanted = [each for each in names if each == name or (kind, each) not in self._done]
            self._outcomes |= {(kind, each): outcome for each, outcome in act(wanted).items()}
            self._done.update((kind, each) for each in wanted)
        return self._outcomes.pop((kind, name))


def selected(context: dg.AssetExecutionContext, prefix: str) -> set[str]:
    """The names behind a prefix among the asset keys that this run materializes. A run that does some steps of another
    once more keeps the other's assets, and names the steps."""
    steps = context.run.step_keys_to_execute
    keys = context.job_def.asset_layer.executable_asset_keys
    wanted = [key for key in keys if steps is None or key.to_python_identifier() in steps]
    return {key.path[1] for key in wanted if key.path[0] == prefix and len(key.path) == 2}
