"""A fleet with stored SBOMs, swept: what one release costs, and how long a hundred thousand take on two cores.

python benchmarks/sweeps.py [--images 100] [--releases 40] [--write]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


from registry_pipelines.chain import Chain
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.release import Release
from registry_pipelines.scan.match import Matcher
from registry_pipelines.scan.publish import publish_report, publish_sboms
from registry_pipelines.scan.report import Component, PlatformPackages

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


def write_advisories(folder: Path, *, new: int = 0) -> None:
    """Records about a tenth of all packages; new: so many more, as one night brings them."""
    folder.mkdir(exist_ok=True)
    random_ = random.Random(7)
    names = [("Debian:12", f"lib{each}") for each in range(DEBIAN)] + [("PyPI", f"wheel{each}") for each in range(PYPI)]
    random_.shuffle(names)
    chosen = names[: len(names) // 10] if not new else names[-new:]
    for ecosystem, name in chosen:
        identifier = f"{'NEW' if new else 'OLD'}-{name}"
        fixed = "1.3-1" if ecosystem != "PyPI" else "1.2.0"
        record = {
            "id": identifier,
            "modified": f"2026-11-{10 if not new else 20}T00:00:00Z",
            "summary": f"{name} does what it should not",
            "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:N"}],
            "affected": [
                {
                    "package": {"ecosystem": ecosystem, "name": name},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
                }
            ],
        }
        (folder / f"{identifier}.json").write_text(json.dumps(record))


def push_release(chain: Chain, image: int, number: int, matcher: Matcher) -> Release:
    """An image of one small layer with a signed SBOM and a signed report, as a release run leaves it."""
    place = chain.place(f"app{image}")
    layer = b"a layer that all share"
    layer_blob = push_blob(place, layer, media_type=LAYER)
    config = push_blob(
        place,
        json.dumps({"architecture": "amd64", "os": "linux", "image": image, "number": number,
                    "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]}}).encode(),
        media_type=CONFIG,
    )  # fmt: skip
    parts = [
        {"mediaType": each.media_type, "digest": str(each.digest), "size": each.size} for each in (config, layer_blob)
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}).encode()
    made = ManifestBytes(raw, MANIFEST, Digest.of(raw))
    place.registry.put_manifest(place.repository, made, tag=f"v1.{number}.0")
    subject = Descriptor(media_type=MANIFEST, digest=made.digest, size=len(raw))
    from registry_pipelines.oci.platforms import Platform

    packages = PlatformPackages(
        subject=made.digest, manifest=subject, platform=Platform(os="linux", architecture="amd64"),
        components=tuple(sorted(contents(image, number), key=lambda each: each.purl)), created="2026-11-01T00:00:00Z",
    )  # fmt: skip
    signer = chain._session.keys.at_hand("scanner")
    publish_sboms(place, subject, [packages], signer=signer)
    publish_report(place, subject, matcher.report([packages]), signer=signer)
    return Release(f"app{image}", f"v1.{number}.0", made.digest)
