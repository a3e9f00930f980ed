from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.buckets import BUCKETS, LARGE_WHEEL_BYTES, MAX_LAYERS, group
from registry_pipelines.build.builder import LockedWheel


def wheel(name: str, size: int, version: str = "1") -> LockedWheel:
    return LockedWheel(name=name, version=version, filename=f"{name}-{version}.whl", sha256="0" * 64, size=size)


sets = st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(1, 30 * 1024 * 1024), max_size=150)


@settings(deadline=None)
@given(sets, st.integers(0, 30))
def test_every_wheel_is_in_one_layer_and_there_are_few_layers(sizes: dict[str, int], base: int) -> None:
    wheels = [wheel(name, size) for name, size in sizes.items()]
    groups = group(wheels, base_layers=base)
    assert sorted(w.name for members in groups for w in members) == sorted(sizes)
    assert len(groups) + base <= MAX_LAYERS


@settings(deadline=None)
@given(sets, st.data())
def test_one_changed_wheel_changes_one_layer(sizes: dict[str, int], data: st.DataObject) -> None:
    if not sizes:
        return
    changed = data.draw(st.sampled_from(sorted(sizes)))
    before = [wheel(name, size) for name, size in sizes.items()]
    after = [wheel(name, size, "2" if name == changed else "1") for name, size in sizes.items()]
    assert len(set(group(before)) - set(group(after))) == 1


def test_large_wheels_stand_alone_and_small_ones_share() -> None:
    small = [wheel(f"small{i}", 1000) for i in range(100)]
    groups = group([*small, wheel("large", LARGE_WHEEL_BYTES)])
    assert (wheel("large", LARGE_WHEEL_BYTES),) in groups
    assert len(groups) <= BUCKETS + 1
