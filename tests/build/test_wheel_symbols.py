"""The wheels chosen for a base need no symbol that its C library lacks.

tests/data/wheel-symbols.json has real wheels for x86_64 and CPython 3.11 (2026-11-28): file name to the highest GLIBC
symbol version that any of their ELF files asks for, ``musl`` for those that are linked to it. The files here are empty
ones of these names.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.c_library import stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.resolving import resolve
from registry_pipelines.build.target import WheelTarget
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import RequirementsInvalid
from registry_pipelines.oci.platforms import Platform
from tests.build.wheels import make_wheel

SYMBOLS: dict[str, str] = json.loads((Path(__file__).parent.parent / "data" / "wheel-symbols.json").read_text())
PLATFORM = Platform.parse("linux/amd64")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for filename in SYMBOLS:
        name, version, tag = filename.removesuffix(".whl").split("-", 2)
        make_wheel(folder, name, version, {}, tag=tag)
    return folder


def chosen(library: str, names: set[str], wheels: Path, tmp_path: Path) -> dict[str, str]:
    """By name, the symbol version that the chosen wheel needs."""
    spec = BuildSpec(name="x", requirements=tuple(sorted(names)), wheels=wheels)
    target = WheelTarget(PLATFORM, "3.11", stated_c_library(library))
    with closing(BuildCache(tmp_path / "cache.sqlite")) as cache:
        wheels = resolve(spec, target, store=WheelStore(tmp_path / "store"), cache=cache)
    return {wheel.locked.name: SYMBOLS[wheel.locked.filename] for wheel in wheels}


def minor(symbol: str) -> int:
    return int(symbol.removeprefix("2."))


def names_for(kind: str, limit: int = 99) -> set[str]:
    """Projects that publish a wheel whose name promises to run there."""
    if kind == "musl":
        return {name.split("-")[0] for name in SYMBOLS if "musllinux" in name}
    return {name.split("-")[0] for name, symbol in SYMBOLS.items() if symbol != "musl" and minor(symbol) <= limit}


@pytest.mark.parametrize("library", ["glibc-2.17", "glibc-2.31", "glibc-2.36"])
def test_wheels_for_glibc_need_nothing_newer(library: str, wheels: Path, tmp_path: Path) -> None:
    limit = minor(library.removeprefix("glibc-"))
    names = names_for("glibc", limit)
    needed = chosen(library, names, wheels, tmp_path)
    assert len(needed) == len(names) >= 11
    assert max(minor(symbol) for symbol in needed.values()) <= limit
    best = max(minor(SYMBOLS[name]) for name in SYMBOLS if name.startswith("cryptography-") and fits(name, limit))
    assert minor(needed["cryptography"]) == best


def fits(filename: str, limit: int) -> bool:
    return SYMBOLS[filename] != "musl" and minor(SYMBOLS[filename]) <= limit


def test_wheels_for_musl_are_linked_to_musl(wheels: Path, tmp_path: Path) -> None:
    needed = chosen("musl-1.2", names_for("musl"), wheels, tmp_path)
    assert len(needed) == len(names_for("musl")) >= 11
    assert set(needed.values()) == {"musl"}


def test_what_has_no_wheel_for_the_base_is_refused(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(RequirementsInvalid, match="pyarrow"):
        chosen("glibc-2.17", {"pyarrow"}, wheels, tmp_path)
    with pytest.raises(RequirementsInvalid, match="xgboost"):
        chosen("musl-1.2", {"xgboost"}, wheels, tmp_path)
