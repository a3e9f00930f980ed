from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from registry_pipelines.build.application import application_entries
from registry_pipelines.build.conflicts import (
    Inventory,
    application_inventory,
    check_rules,
    settle,
    take_inventory,
)
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.errors import InputError, PathConflict
from tests.build.layers import SCHEME, SITE, entries, wheel_layer
from tests.build.wheels import make_wheel, record_hash


def inventories(*wheels: Path) -> list[Inventory]:
    return [take_inventory(open_wheel(path), SCHEME) for path in wheels]


def settled(
    inventories: list[Inventory], rules: Mapping[str, str] | None = None
) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (conflict.path.removeprefix(SITE + "/"), conflict.winner, conflict.losers)
        for conflict in settle(inventories, rules, site_packages=SITE)
    ]


@pytest.fixture
def two(tmp_path: Path) -> list[Inventory]:
    """Two projects that both bring their tests, as some on the public index do."""
    one = make_wheel(tmp_path, "One.Lib", files={"one.py": b"", "tests/__init__.py": b"1", "tests/x.py": b"1"})
    other = make_wheel(tmp_path, "other", files={"other.py": b"", "tests/__init__.py": b"2", "tests/x.py": b"2"})
    return inventories(one, other)


def test_the_same_path_with_other_content_names_both_wheels_and_the_setting(two: list[Inventory]) -> None:
    with pytest.raises(PathConflict) as caught:
        settled(two)
    text = str(caught.value)
    assert f"/{SITE}/tests/__init__.py: One.Lib-1.0-py3-none-any.whl and other-1.0" in text
    assert "other such paths: tests/x.py" in text
    assert "`conflicts` whose file stands there (tests/__init__.py: one-lib)" in text


@pytest.mark.parametrize(
    ("rules", "winners"),
    [
        ({"tests/*": "other"}, ("other", "other")),
        ({"tests/*": "one-lib"}, ("one-lib", "one-lib")),
        ({"tests/*": "One_Lib", "tests/x.py": "other"}, ("one-lib", "other")),
        ({f"/{SITE}/tests/x.py": "other", "*": "one-lib"}, ("one-lib", "other")),
        ({"*": "nobody", "tests/*": "other"}, ("other", "other")),
    ],
)
def test_a_rule_names_whose_file_stands_there(
    two: list[Inventory], rules: dict[str, str], winners: tuple[str, ...]
) -> None:
    other = {"other": "one-lib", "one-lib": "other"}
    paths = ("tests/__init__.py", "tests/x.py")
    assert settled(two, rules) == [
        (path, winner, (other[winner],)) for path, winner in zip(paths, winners, strict=True)
    ]


def test_a_path_that_no_rule_covers_stays_an_error(two: list[Inventory]) -> None:
    with pytest.raises(PathConflict, match=r"tests/x\.py"):
        settled(two, {"tests/__init__.py": "other"})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"tests/*": "absent"}, "no such wheel is in the image"),
        ({"other.py": "one-lib"}, r"One\.Lib-1\.0.* brings no such path"),
        ({"tests/*": "application"}, "no such wheel"),
    ],
)
def test_a_rule_that_can_settle_nothing_is_an_error(two: list[Inventory], rules: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_rules(rules, [(SITE, two)])


def test_a_rule_for_one_platform_only_is_none(two: list[Inventory]) -> None:
    check_rules({"tests/*": "other"}, [(SITE, two[:1]), (SITE, two)])


def test_two_wheels_with_the_same_script_name_conflict(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", entry_points="[console_scripts]\nrun = one:main\n")
    two = make_wheel(tmp_path, "two", entry_points="[console_scripts]\nrun = two:main\n")
    with pytest.raises(PathConflict, match=r"/usr/local/bin/run: .*\(/usr/local/bin/run: one\)"):
        settled(inventories(one, two))
    assert settled(inventories(one, two), {"/usr/local/bin/run": "two"}) == [("usr/local/bin/run", "two", ("one",))]


def test_a_file_in_the_place_of_anothers_folder_conflicts_and_no_rule_settles_it(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"thing": b"file"})
    two = make_wheel(tmp_path, "two", files={"thing/__init__.py": b""})
    with pytest.raises(PathConflict, match=r"thing: it is a file of one-1\.0.* and a folder of two-1\.0"):
        settled(inventories(one, two), {"thing": "one"})


def test_the_same_content_twice_is_fine_and_written_once(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"space/__init__.py": b"", "space/one.py": b"1"})
    two = make_wheel(tmp_path, "two", files={"space/__init__.py": b"", "space/two.py": b"2"})
    assert settled(inventories(one, two)) == []
    there = entries(wheel_layer(one, two))
    assert {f"{SITE}/space/{name}.py" for name in ("__init__", "one", "two")} <= there.keys()


def test_contents_are_compared_by_sha256_whatever_record_has(tmp_path: Path) -> None:
    """No hash, a weak one, another algorithm: the files themselves decide."""
    rows = {"a.py": "a.py,,", "b.py": "b.py,md5=XUFAKrxLKna5cZ2REBfFkg,5", "c.py": ""}
    same = {"a.py": b"same", "b.py": b"hello", "c.py": b"same"}
    one = make_wheel(tmp_path, "one", files=same, record=rows)
    two = make_wheel(tmp_path, "two", files=same)
    assert settled(inventories(one, two)) == []
    assert settled(inventories(two, one)) == []
    three = make_wheel(tmp_path, "three", files={**same, "c.py": b"else"})
    with pytest.raises(PathConflict, match=r"c\.py"):
        settled(inventories(one, three))


def test_a_wheel_does_not_write_into_anothers_metadata(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one")
    two = make_wheel(tmp_path, "two", files={"two-1.0.data/purelib/one-1.0.dist-info/RECORD": b"x,,\n"})
    with pytest.raises(PathConflict, match=r"one-1\.0\.dist-info/RECORD"):
        settled(inventories(one, two))


def test_the_losers_file_is_left_out_of_layer_record_and_byte_code(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"one.py": b"", "shared.py": b"A = 1\n"})
    two = make_wheel(tmp_path, "two", files={"two.py": b"", "shared.py": b"A = 2\n"})
    there = entries(wheel_layer(one, two, byte_code=True, left_out={one: (f"{SITE}/shared.py",)}))
    assert there[f"{SITE}/shared.py"][1] == b"A = 2\n"
    assert b"shared" not in there[f"{SITE}/one-1.0.dist-info/RECORD"][1]
    assert record_hash(b"A = 2\n").encode() in there[f"{SITE}/two-1.0.dist-info/RECORD"][1]
    alone = entries(wheel_layer(one, byte_code=True, left_out={one: (f"{SITE}/shared.py",)}))
    assert not [name for name in alone if "shared" in name]


def application(folder: Path, files: Mapping[str, bytes], workdir: str, wheels: list[Inventory]) -> Inventory:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return application_inventory(application_entries(folder, workdir), wheels)


def test_an_application_that_covers_a_wheels_file_needs_a_rule(tmp_path: Path) -> None:
    wheels = inventories(make_wheel(tmp_path, "one", files={"one.py": b"1", "same.py": b"s"}))
    app = application(tmp_path / "app", {"one.py": b"mine", "same.py": b"s", "new.py": b"n"}, f"/{SITE}", wheels)
    with pytest.raises(PathConflict, match=r"the application folder.*\(one\.py: application\)"):
        settled([*wheels, app])
    assert settled([*wheels, app], {"one.py": "application"}) == [("one.py", "application", ("one",))]
    with pytest.raises(PathConflict):
        settled([*wheels, app], {"one.py": "one"})


def test_an_application_elsewhere_shares_nothing(tmp_path: Path) -> None:
    wheels = inventories(make_wheel(tmp_path, "one", files={"one.py": b"1"}))
    assert settled([*wheels, application(tmp_path / "app", {"one.py": b"mine"}, "/app", wheels)]) == []


def test_an_applications_folder_does_not_cover_a_wheels_file(tmp_path: Path) -> None:
    wheels = inventories(make_wheel(tmp_path, "one", files={"thing": b"1"}))
    (tmp_path / "app" / "thing").mkdir(parents=True)
    with pytest.raises(PathConflict, match="a folder of the application folder"):
        settled([*wheels, application(tmp_path / "app", {}, f"/{SITE}", wheels)])
