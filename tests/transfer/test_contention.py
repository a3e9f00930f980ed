"""Large blobs that share memory, windows and targets: none may stop another for ever."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.transfer.limits import Limits
from registry_pipelines.transfer.memory import BUDGET_BYTES, PART_BYTES
from registry_pipelines.transfer.sync import Source, Target, sync
from registry_pipelines.transfer.verify import compare

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

ALL_OF_MEMORY = BUDGET_BYTES + 3 * PART_BYTES + 5


@pytest.mark.timeout(60)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "session"])
def test_a_narrow_window_and_full_memory_do_not_wait_for_each_other(
    whole: bool, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """One blob has the only place at the registry and needs memory, which others hold that want the place."""
    for name in ("a", "b", "c"):
        graphs.image(source.place(name), graphs.noise(ALL_OF_MEMORY // 2, ord(name)), tag="v1")
    place = Target(LayoutRegistry(tmp_path / "layouts") if whole else target.registry)
    limits = Limits()
    limits.window(place.registry.name, "append").size = 1.0
    result = sync([Source(source.registry, (place,))], state=tmp_path / "state", limits=limits)
    assert result.ok, [item.error for item in result.results]
    for name in ("a", "b", "c"):
        assert compare(source.place(name), place.place(name), "v1") == []
