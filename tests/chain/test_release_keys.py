"""Short keys of releases: what the state folder gives, what is rebuilt from signed records, and what is refused."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.chain.release_keys import FILE, ReleaseKeys
from registry_pipelines.errors import InputError, LocalError, StateTooNew
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet

HEX = "0123456789ab"


def alike(*ends: str) -> list[Release]:
    """Releases whose digests begin with the same twelve digits."""
    return [Release("app", "v1", Digest(f"sha256:{HEX}{end:0<52}")) for end in ends]


def test_a_key_is_kept_and_says_whose_it_is(tmp_path: Path) -> None:
    [one] = alike("1")
    assert ReleaseKeys(tmp_path).every() == {}
    assert ReleaseKeys(tmp_path).name([one]) == {one: f"app:v1@{HEX}"}
    assert ReleaseKeys(tmp_path).name([one]) == {one: f"app:v1@{HEX}"}
    assert ReleaseKeys(tmp_path).every() == {f"app:v1@{HEX}": one}
    assert ReleaseKeys(tmp_path).find(f"app:v1@{HEX[:-1]}") is None


def test_a_second_digest_with_one_key_gets_sixteen_digits(tmp_path: Path) -> None:
    one, two, three = alike("1", "2", "20001")
    keys = ReleaseKeys(tmp_path)
    assert keys.name([one])[one] == f"app:v1@{HEX}"
    assert keys.name([two])[two] == f"app:v1@{HEX}2000"
    assert keys.name([three])[three] == f"app:v1@{HEX}20001000"
    assert keys.find(f"app:v1@{HEX}") == one


def test_of_two_that_come_together_none_gets_the_shorter_key(tmp_path: Path) -> None:
    """Else what a lost folder is rebuilt to would depend on the order in which a registry lists tags."""
    one, two = alike("1", "2")
    there, back = ReleaseKeys(tmp_path / "a").name([one, two]), ReleaseKeys(tmp_path / "b").name([two, one])
    assert there == back == {one: f"app:v1@{HEX}1000", two: f"app:v1@{HEX}2000"}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(alike("1", "2", "20001", "20002", "3")), max_size=8), st.integers(0, 8))
def test_no_two_releases_have_one_key_and_none_changes(
    tmp_path_factory: pytest.TempPathFactory, releases: list[Release], cut: int
) -> None:
    keys = ReleaseKeys(tmp_path_factory.mktemp("keys"))
    first = keys.name(releases[:cut])
    every = keys.name([*releases[cut:], *releases])
    assert len(set(every.values())) == len(set(releases))
    assert first.items() <= every.items()
    assert keys.every() == {key: release for release, key in every.items()}


def test_many_that_ask_at_once_get_the_same_answer(tmp_path: Path) -> None:
    releases = [Release("app", f"v{number}", Digest.of(str(number).encode())) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ReleaseKeys(tmp_path).name(releases), range(16)))
    assert all(answer == answers[0] for answer in answers)


def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, and more than its header of sixteen bytes" * 9)
    with pytest.raises(LocalError, match="delete it: signed records have the keys too"):
        ReleaseKeys(tmp_path).every()


@pytest.mark.parametrize(
    ("column", "value"),
    [("digest", "sha256:" + "f" * 64), ("digest", "garbage"), ("digest", None), ("image", "other"), ("tag", "v2")],
)
def test_a_key_that_was_changed_by_hand_names_nothing(tmp_path: Path, column: str, value: str | None) -> None:
    """People see the key, and what is promoted is the digest."""
    ReleaseKeys(tmp_path).name(alike("1"))
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(f"UPDATE release_keys SET {column} = ?", (value,))
    for read in (ReleaseKeys(tmp_path).every, lambda: ReleaseKeys(tmp_path).find(f"app:v1@{HEX}")):
        with pytest.raises(LocalError, match="is written with another release"):
            read()


def test_a_newer_builds_file_is_left_alone(tmp_path: Path) -> None:
    ReleaseKeys(tmp_path).name(alike("1"))
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StateTooNew, match="the file of release keys has version 99"):
        ReleaseKeys(tmp_path).name(alike("2"))


def test_every_way_to_write_a_release_is_read_and_no_other(fleet: Fleet) -> None:
    chain, release = fleet.chain, fleet.release("v1.0.0")
    [key] = chain.keys_of([release]).values()
    assert key == f"app:{release.tag}@{release.digest.hex[:12]}"
    for text in (key, release.key, f"app:{release.tag}", f"app@{release.digest}", "app"):
        assert chain.find_release(text) == release
    for text in (key[:-1], f"{key}0", f"app:v9@{release.digest.hex[:12]}", f"app@{release.digest.hex[:12]}"):
        with pytest.raises(InputError):
            chain.release_of_key(text)


def test_an_unknown_key_is_not_looked_for_by_its_digits(fleet: Fleet) -> None:
    """The digest is there, under that tag; but nobody signed anything about it and the state does not know it."""
    release = fleet.release("v1.0.0")
    with pytest.raises(InputError, match=r"is not known: this state folder has no such key.*Write app:"):
        fleet.chain.find_release(f"app:{release.tag}@{release.digest.hex[:12]}")


def test_a_lost_folder_is_rebuilt_from_signed_records(fleet: Fleet) -> None:
    chain, release = fleet.chain, fleet.release("v1.0.0")
    [key] = chain.keys_of([release]).values()
    fleet.judged(release)
    (chain.config.state / FILE).unlink()
    assert Chain(chain.config).find_release(key) == release
    assert chain.known_keys() == {key: release}


def test_signatures_of_others_rebuild_nothing(fleet: Fleet) -> None:
    chain, release = fleet.chain, fleet.release("v1.0.0")
    [key] = chain.keys_of([release]).values()
    fleet.judged(release)
    (chain.config.state / FILE).unlink()
    shutil.rmtree(chain.config.state / "keys")
    other = Chain(chain.config)
    other.sign(release)
    with pytest.raises(InputError, match="is not known"):
        other.release_of_key(key)


def test_a_key_that_two_releases_would_have_is_refused(fleet: Fleet) -> None:
    """After a lost folder nobody can say whose it was."""
    one, two = (Release("app", "v1", each.digest) for each in alike("1", "2"))
    fleet.chain.keys_of([one, two])
    with pytest.raises(InputError, match=rf"could be app:v1@{HEX}1000 or app:v1@{HEX}2000"):
        fleet.chain.release_of_key(f"app:v1@{HEX}")


def test_the_digest_that_came_with_a_key_counts_only_where_it_makes_that_key(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    found = f"app:v1.0.0@{release.digest.hex[:12]}"
    assert fleet.chain.release_of_key(found, str(release.digest)) == release
    one, two = (Release("app", "v1", each.digest) for each in alike("1", "2"))
    [key] = fleet.chain.keys_of([one]).values()
    assert fleet.chain.release_of_key(key, str(two.digest)) == one
    with pytest.raises(InputError, match="is not known"):
        fleet.chain.release_of_key("app:v2@ba9876543210", str(two.digest))
    assert list(fleet.chain.known_keys()) == [found, key]


def test_a_key_is_not_kept_before_the_registry_names_its_digest(fleet: Fleet) -> None:
    """A launch may come with any tag and any key."""
    release = fleet.release("v1.0.0")
    [made_up, _] = alike("1", "2")
    for tag, digest in (("v1.0.0", made_up.digest), ("v7.7.7", release.digest)):
        with pytest.raises(InputError, match="is not known"):
            fleet.chain.release_of_key(f"app:{tag}@{digest.hex[:12]}", str(digest))
    with pytest.raises(InputError):
        fleet.chain.release_of_key(f"nothing:v1.0.0@{release.digest.hex[:12]}", str(release.digest))
    assert fleet.chain.known_keys() == {}
