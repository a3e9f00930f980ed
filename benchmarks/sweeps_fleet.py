"""What ``sweeps.py`` measures with: a fleet of releases that were scanned and signed, and one that Dagster knows."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dagster as dg

from dagster_project.partitions import add_releases
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.release import Release
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.match import Matcher
from registry_pipelines.scan.publish import publish_report, publish_sboms
from registry_pipelines.scan.report import Component, PlatformPackages
from tests.ports import free_ports

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BASE_PACKAGES, OWN_PACKAGES, DEBIAN, PYPI = 110, 50, 400, 3000
BASES = 40
"""Editions of bases that a fleet stands on."""


def settings(ports: list[int], images: int) -> str:
    named = "\n".join(
        f"  app{number}: {{registry: us, repository: fleet/app{number}, targets: [eu]}}" for number in range(images)
    )
    return f"""\
registries:
  us: {{kind: embedded, port: {ports[0]}}}
  eu: {{kind: embedded, port: {ports[1]}}}
images:
{named}
targets: {{eu: {{registry: eu}}}}
signing: {{generate: true}}
advisories: {{source: advisories}}
"""


def package(kind: str, name: str, version: str) -> Component:
    if kind == "deb":
        return Component(
            purl=f"pkg:deb/debian/{name}@{version}?arch=amd64&distro=debian-12", name=name, version=version, type="deb",
            ecosystem="Debian:12", locations=("var/lib/dpkg/status",), licenses=("GPL-2.0-or-later",),
        )  # fmt: skip
    return Component(
        purl=f"pkg:pypi/{name}@{version}", name=name, version=version, type="pypi", ecosystem="PyPI",
        locations=(f"usr/lib/python3/site-packages/{name}-{version}.dist-info/METADATA",), licenses=("MIT",),
    )  # fmt: skip


def contents(image: int, number: int) -> list[Component]:
    """What a release holds: one of some editions of a base, and packages of its own, of which a few changed since the
    release before it."""
    base = random.Random((image * 7 + number) % BASES)
    chosen = random.Random(image)
    found = [
        package("deb", f"lib{each}", f"1.{base.randrange(6)}-1") for each in base.sample(range(DEBIAN), BASE_PACKAGES)
    ]
    for each in chosen.sample(range(PYPI), OWN_PACKAGES):
        found.append(package("pypi", f"wheel{each}", f"{chosen.randrange(3)}.{(number + each) // 10}.0"))
    return found


def every_package() -> list[tuple[str, str]]:
    """By ecosystem and name, in a random order that is always the same."""
    names = [("Debian:12", f"lib{each}") for each in range(DEBIAN)] + [("PyPI", f"wheel{each}") for each in range(PYPI)]
    random.Random(7).shuffle(names)
    return names


def new_packages(count: int) -> list[tuple[str, str]]:
    """So many that the first advisories say nothing of."""
    return every_package()[-count:]


def write_advisories(folder: Path) -> None:
    """Records about a tenth of all packages."""
    names = every_package()
    write_records(folder, "OLD", names[: len(names) // 10], fixed=True)


def write_records(folder: Path, begins: str, packages: Sequence[tuple[str, str]], *, fixed: bool = False) -> None:
    """A record about each package. fixed: a part of its versions is not affected."""
    folder.mkdir(exist_ok=True)
    for ecosystem, name in packages:
        identifier = f"{begins}-{name}"
        last = [{"fixed": "1.3-1" if ecosystem != "PyPI" else "1.2.0"}] if fixed else []
        record = {
            "id": identifier,
            "modified": f"2026-11-{10 if fixed else 20}T00:00:00Z",
            "summary": f"{name} does what it should not",
            "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:N"}],
            "affected": [
                {
                    "package": {"ecosystem": ecosystem, "name": name},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *last]}],
                }
            ],
        }
        (folder / f"{identifier}.json").write_text(json.dumps(record))


def push_image(chain: Chain, image: int, number: int) -> tuple[Release, Descriptor]:
    """An image of one small layer, with a digest of its own."""
    place = chain.place(f"app{image}")
    layer = b"a layer that all share"
    held = push_blob(place, layer, media_type=LAYER)
    content = {
        "architecture": "amd64",
        "os": "linux",
        "image": image,
        "number": number,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
    }
    config = push_blob(place, json.dumps(content).encode(), media_type=CONFIG)
    parts = [{"mediaType": each.media_type, "digest": str(each.digest), "size": each.size} for each in (config, held)]
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}).encode()
    made = ManifestBytes(raw, MANIFEST, Digest.of(raw))
    place.registry.put_manifest(place.repository, made, tag=f"v1.{number}.0")
    release = Release(f"app{image}", f"v1.{number}.0", made.digest)
    return release, Descriptor(media_type=MANIFEST, digest=made.digest, size=len(raw))


def push_release(chain: Chain, image: int, number: int, matcher: Matcher) -> None:
    """The same with a signed SBOM and a signed report, as a release run leaves it."""
    release, subject = push_image(chain, image, number)
    place, signer = chain.place(release.image), chain._session.keys.at_hand("scanner")
    packages = PlatformPackages(
        subject=subject.digest,
        manifest=subject,
        platform=Platform(os="linux", architecture="amd64"),
        components=tuple(sorted(contents(image, number), key=lambda each: each.purl)),
        created="2026-11-01T00:00:00Z",
    )
    publish_sboms(place, subject, [packages], signer=signer)
    publish_report(place, subject, matcher.report([packages]), signer=signer)


def covering() -> list[str]:
    """A few packages of bases, of which every edition has at least one."""
    editions = [{each.name for each in contents(0, number) if each.ecosystem != "PyPI"} for number in range(BASES)]
    chosen: list[str] = []
    while editions:
        counts = Counter(name for each in editions for name in sorted(each))
        chosen.append(counts.most_common(1)[0][0])
        editions = [each for each in editions if chosen[-1] not in each]
    return chosen


def fill(folder: Path, images: int, releases: int) -> None:
    """A registry with so many releases of so many images, scanned and signed."""
    config = folder / "registry-pipelines.yaml"
    folder.mkdir(parents=True)
    write_advisories(folder / "advisories")
    config.write_text(settings(free_ports(2), images))
    with ensure_registries(load(config, {})):
        AdvisoryStore.load(folder / "advisories", load(config, {}).state).close()
        Chain(load(config, {}))._session.keys.signer("scanner")  # makes the key that all sign with
        lanes = 3
        with ProcessPoolExecutor(lanes, mp_context=get_context("spawn")) as pool:
            list(
                pool.map(
                    push_some,
                    [config] * lanes,
                    [range(lane, images, lanes) for lane in range(lanes)],
                    [releases] * lanes,
                )
            )


def push_some(config: Path, images: range, releases: int) -> None:
    """Releases of some images, in a process of their own."""
    chain = Chain(load(config, {}))
    store = AdvisoryStore.load(config.parent / "advisories", chain.config.state)
    matcher = Matcher(store)
    for image in images:
        for number in range(releases):
            push_release(chain, image, number, matcher)
    store.close()


def live(folder: Path, count: int) -> None:
    """A registry with so many small releases in 50 images, and a Dagster home that knows all of them as judged, and of
    ten nine as promoted."""
    config, home, images = folder / "live.yaml", folder / "home", 50
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    config.write_text(settings(free_ports(2), images).replace("fleet/", "live/"))
    parsed = load(config, {})
    with ensure_registries(parsed), dg.DagsterInstance.from_config(str(home)) as instance:
        chain = Chain(parsed)
        made = [push_image(chain, number % images, number // images)[0] for number in range(count)]
        keys = list(add_releases(instance, chain, made).values())
        for asset in ("verdict", "promotion"):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=keys[0]))
    [path] = home.rglob("index.db")
    with sqlite3.connect(path) as database:  # as 9,499 further events; by Dagster's own calls they take minutes
        for asset in ("verdict", "promotion"):
            columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key"
            further = [(key,) for place, key in enumerate(keys) if place and (asset == "verdict" or place % 10 < 9)]
            database.executemany(
                f"INSERT INTO event_logs ({columns}, partition) SELECT {columns}, ? FROM event_logs "
                f"WHERE asset_key = '{json.dumps([asset])}' AND partition = '{keys[0]}'",
                further,
            )
