"""A small fleet for tests: five embedded registries, a policy, an advisory, and images made by hand."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines.build.builder import PREDICATE_TYPE_ANNOTATION, PROVENANCE_ARTIFACT
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import Config, load
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.delivery.receipts import Receipt, pre_authentication_encoding
from tests.ports import free_ports
from tests.scan.images import push_image

SETTINGS = """\
registries:
  us: {{kind: embedded, port: {0}}}
  eu: {{kind: embedded, port: {1}}}
  gcp: {{kind: embedded, port: {2}}}
  dmz: {{kind: embedded, port: {3}}}
  private: {{kind: embedded, port: {4}}}
images:
  app: {{registry: us, repository: team/app, targets: [eu, gcp]}}
  tool: {{registry: us, repository: team/tool, channel: stable}}
targets:
  eu: {{registry: eu}}
  gcp: {{registry: gcp, prefix: replicas}}
signing: {{generate: true}}
advisories: {{source: advisories}}
mirrors:
  airgap:
    via: dmz
    to: private
    prefix: in
    images: [app]
    upstreams:
      - {{image: us/up/stream, tags: ["1.*"], newest: 2}}
"""


def write_advisory(folder: Path, *, package: str = "badwheel", modified: datetime | None = None) -> None:
    """One critical OSV record."""
    folder.mkdir(exist_ok=True)
    record = {
        "id": "TEST-2026-1",
        "modified": (modified or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "summary": "runs what it is given",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
    }
    (folder / "TEST-2026-1.json").write_text(json.dumps(record))


def push(
    place: Place, tag: str, *, package: str = "goodwheel", version: str = "1.0", provenance: bool = True
) -> Descriptor:
    """An image with one Python package, and unsigned provenance as a builder would attach it."""
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n\n{tag}"
    path = f"usr/lib/python3/site-packages/{package}-{version}.dist-info"
    made = push_image(place, [{f"{path}/METADATA": metadata, f"{path}/RECORD": ""}], tag=tag)
    if provenance:
        attach_provenance(place, made, package=package, version=version)
    return made


def attach_provenance(place: Place, subject: Descriptor, *, package: str = "goodwheel", version: str = "1.0") -> None:
    """Unsigned provenance, as a builder would attach it."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": str(place), "digest": {subject.digest.algorithm: subject.digest.hex}}],
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:test",
                "externalParameters": {},
                "resolvedDependencies": [{"uri": f"pkg:pypi/{package}@{version}", "digest": {"sha256": "00"}}],
            },
            "runDetails": {"builder": {"id": "urn:test:builder"}},
        },
    }
    attach(
        place,
        subject=subject,
        artifact_type=PROVENANCE_ARTIFACT,
        content=json.dumps(statement).encode(),
        media_type=PROVENANCE_ARTIFACT,
        annotations={PREDICATE_TYPE_ANNOTATION: PROVENANCE_TYPE},
    )


@dataclass
class Fleet:
    """Running registries with their configuration."""

    path: Path
    config: Config
    chain: Chain

    @property
    def folder(self) -> Path:
        return self.path.parent

    def reload(self, *changes: tuple[str, str]) -> Chain:
        """A chain over a changed configuration file; the registries go on."""
        text = self.path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.path.write_text(text)
        return Chain(load(self.path, {}))

    def release(self, tag: str, *, image: str = "app", package: str = "goodwheel", provenance: bool = True) -> Release:
        """Push a release of an image."""
        made = push(self.chain.place(image), tag, package=package, provenance=provenance)
        return Release(image, tag, made.digest)

    def judged(self, release: Release) -> bool:
        """Scan, sign and judge; the verdict."""
        self.chain.sbom(release)
        self.chain.vulnerabilities(release)
        self.chain.sign(release)
        return self.chain.judge(release).ok


def write_config(folder: Path) -> Path:
    """The configuration with free ports, and its advisory."""
    write_advisory(folder / "advisories")
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format(*free_ports(5)))
    return path


def start(folder: Path, stack: ExitStack, *changes: tuple[str, str]) -> Fleet:
    """Write the configuration, changed, and have its registries listening until the stack is closed."""
    path = write_config(folder)
    for old, new in changes:
        path.write_text(path.read_text().replace(old, new, 1))
    config = load(path, {})
    stack.enter_context(ensure_registries(config))
    return Fleet(path, config, Chain(config))


def check_receipt(chain: Chain, place: Place, tag: str) -> None:
    """What was found at a place is on record here, signed by a key the configuration trusts."""
    store = chain._session.receipts()
    receipt = store.load(place, place.registry.resolve(place.repository, tag).digest)
    assert isinstance(receipt, Receipt)
    envelope = json.loads(receipt.envelope)
    signed = pre_authentication_encoding(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    [signature] = envelope["signatures"]
    load_verifier(chain.config.trusted_keys).verify(signed, base64.b64decode(signature["sig"]))
