"""Upstreams that are read through a declared cache: the upstream's digests, the cache's bytes, and it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.build.bases import describe_base, open_base
from registry_pipelines.chain import Chain
from registry_pipelines.chain.places import Places
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, NotFound, Unsupported
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.through_cache import Served
from registry_pipelines.release import Release
from registry_pipelines.transfer.copying import copy_closure
from tests.chain.conftest import fleet
from tests.chain.entries import AMD64, entry, index
from tests.chain.fleet import Fleet, push
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry

__all__ = ["fleet"]
CONTENT = r".*/(manifests/sha256:.*|blobs/.*)"


@pytest.fixture
def hub(fleet: Fleet) -> Iterator[FaultRegistry]:
    """An upstream that is nobody's registry: the fleet's first one under another port."""
    with FaultRegistry(fleet.chain.place("app").registry.name) as faults:
        yield faults


def cached(fleet: Fleet, hub: FaultRegistry, *, registry: str = "dmz", prefix: str = "docker-hub") -> Chain:
    """A configuration whose upstream is read through a cache in another registry."""
    caches = f"caches:\n  {hub.address}: {{registry: {registry}, prefix: '{prefix}'}}\nmirrors:\n"
    return fleet.reload(("mirrors:\n", caches), ("us/up/stream", f"{hub.address}/up/stream"), ("    via: dmz\n", ""))


def at_hub(fleet: Fleet) -> Place:
    return Place(fleet.chain.place("app").registry, "up/stream")


def in_cache(fleet: Fleet) -> Place:
    places = Places(fleet.config)
    return Place(places.registry("dmz"), "docker-hub/up/stream")


def test_a_mirror_takes_the_digests_of_the_upstream_and_the_bytes_of_the_cache(
    fleet: Fleet, hub: FaultRegistry
) -> None:
    upstream, cache = at_hub(fleet), in_cache(fleet)
    old = index(upstream, entry(upstream, "old"), tag="1.0")
    copy_closure(upstream, "1.0", [cache])
    new = index(upstream, entry(upstream, "new"), tag="1.0")
    copy_closure(upstream, new.digest, [cache])  # the cache can bring it, and its tag names the old one for a day
    assert cache.registry.resolve(cache.repository, "1.0").digest == old.digest
    done = cached(fleet, hub).mirror("airgap")
    assert [row["digest"] for row in done.rows] == [new.digest]
    assert f"{hub.address}/up/stream is read through {cache.registry.name}/docker-hub/up/stream" in done.notes
    assert [one.method for one in hub.requests("GET", CONTENT)] == []
    assert hub.requests("HEAD", r".*/manifests/1\.0")


def test_what_the_cache_does_not_bring_is_told(fleet: Fleet, hub: FaultRegistry) -> None:
    upstream = at_hub(fleet)
    index(upstream, entry(upstream, "one"), tag="1.0")
    done = cached(fleet, hub).mirror("airgap")
    assert not done.ok
    assert "docker-hub/up/stream does not bring sha256:" in done.reasons[0]
    assert hub.requests("GET", CONTENT) == []


def test_without_a_way_to_the_upstream_the_cache_is_believed_and_it_is_said(fleet: Fleet, hub: FaultRegistry) -> None:
    upstream, cache = at_hub(fleet), in_cache(fleet)
    made = index(upstream, entry(upstream, "one"), tag="1.0")
    copy_closure(upstream, "1.0", [cache])
    chain = cached(fleet, hub)
    hub.__exit__(None, None, None)
    place = Places(chain.config).place(f"{hub.address}/up/stream")
    assert place.registry.resolve("up/stream", "1.0").digest == made.digest
    assert isinstance(place.registry, Served)
    assert place.registry.by_cache("up/stream") == [f"1.0 ({made.digest.short})"]
    assert list(place.registry.tags("up/stream")) == ["1.0"]
    with pytest.raises(NotFound):
        place.registry.get_manifest("up/stream", "1.9")


def test_a_base_says_in_the_provenance_where_it_came_from(fleet: Fleet, hub: FaultRegistry, tmp_path: Path) -> None:
    upstream, cache = Place(at_hub(fleet).registry, "library/base"), in_cache(fleet)
    made = push(upstream, "1", package="base", provenance=False)
    copy_closure(upstream, "1", [Place(cache.registry, "docker-hub/library/base")])
    (fleet.folder / "application").mkdir()
    (fleet.folder / "application" / "app.py").write_text("print('hello')\n")
    build = (
        f"targets: [eu, gcp], build: {{version: v1.0.0, base: '{hub.address}/library/base:1', "
        "python: '3.11', libc: none, platforms: [linux/amd64], application: application}}"
    )
    cached(fleet, hub)
    chain = fleet.reload(("targets: [eu, gcp]}", build))
    built = chain.build("app")
    assert hub.requests("GET", CONTENT) == []
    statement = chain.provenance(Release.parse(built.subject))
    (base,) = [row for row in statement.rows if "library/base" in str(row["uri"])]
    assert base["uri"] == f"oci://{hub.address}/library/base:1"
    assert base["from"] == f"oci://{cache.registry.name}/docker-hub/library/base@{made.digest}"


@pytest.mark.peer("docker-registry")
def test_a_real_proxy_brings_what_it_never_had(
    fleet: Fleet, hub: FaultRegistry, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    upstream = at_hub(fleet)
    made = index(upstream, entry(upstream, "one"), tag="1.0")
    with DockerRegistry(peer("docker-registry"), tmp_path / "proxy", proxy=f"http://{hub.address}") as proxy:
        chain = fleet.reload(
            ("registries:\n", f"registries:\n  proxy: {{kind: distribution, host: '{proxy.address}'}}\n")
        )
        assert chain
        chain = cached(fleet, hub, registry="proxy", prefix="")
        done = chain.mirror("airgap")
        assert done.ok, done.reasons
        assert [row["digest"] for row in done.rows] == [made.digest]
        base = open_base(
            f"{hub.address}/up/stream:1.0",
            AMD64,
            lambda text: ((at := Places(chain.config).locate(text)).place, at.selector),
        )
        assert describe_base(base, AMD64).served_by == f"{proxy.address}/up/stream"
        place = Places(chain.config).place(f"{hub.address}/up/stream")
        assert place.registry.referrers("up/stream", made.digest) == []


def test_a_cache_names_a_registry_that_there_is(fleet: Fleet, hub: FaultRegistry) -> None:
    with pytest.raises(ConfigInvalid, match="dmx"):
        cached(fleet, hub, registry="dmx")
    with pytest.raises(ConfigInvalid, match="registry host"):
        fleet.reload((hub.address, "https://docker.io"))


def test_nothing_is_written_through_a_cache(fleet: Fleet, hub: FaultRegistry) -> None:
    upstream = at_hub(fleet)
    push(upstream, "1", package="base", provenance=False)
    place = Places(cached(fleet, hub).config).place(f"{hub.address}/other/name")
    with pytest.raises(Unsupported, match="read through a cache"):
        copy_closure(upstream, "1", [place])
    assert load(fleet.path, {}).caches[hub.address].prefix == "docker-hub"


def test_a_dockerfile_is_pinned_to_the_upstreams_digest_at_the_cache(fleet: Fleet, hub: FaultRegistry) -> None:
    upstream, cache = at_hub(fleet), in_cache(fleet)
    made = index(upstream, entry(upstream, "one"), tag="1.0")
    copy_closure(upstream, "1.0", [cache])
    cached(fleet, hub)
    file = fleet.folder / "Dockerfile"
    file.write_text(f"FROM {hub.address}/up/stream:1.0 AS base\nFROM base\n")
    ran = CliRunner().invoke(main, ["pin", str(file), "--write", "--config", str(fleet.path)])
    assert ran.exit_code == 0, ran.output
    at = f"{cache.registry.name}/docker-hub/up/stream:1.0@{made.digest}"
    assert file.read_text() == f"FROM {at} AS base\nFROM base\n"
    assert hub.requests("GET", CONTENT) == []
    missing = CliRunner().invoke(main, ["pin", str(fleet.folder / "none"), "--config", str(fleet.path)])
    assert missing.exit_code == 8
