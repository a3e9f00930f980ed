"""A family and the embedded registry side by side, each with the same images, and a configuration over both."""

from __future__ import annotations

import base64
import http.client
from contextlib import ExitStack
from pathlib import Path

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.oci.layout import Layout
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import push, write_advisory
from tests.doubles.families import Family, FamilyServer
from tests.doubles.families.table import Row
from tests.families.content import manifests_of, missing_blobs, push_sibling, push_signed
from tests.patience import patient

SETTINGS = """\
registries:
  family: {{kind: distribution, host: '{family}', plain_http: true{account}}}
  plain: {{kind: distribution, host: '{plain}'}}
images:
  here: {{registry: family, repository: {released}, targets: [plain]}}
  there: {{registry: plain, repository: released, targets: [family]}}
targets:
  family: {{registry: family, prefix: '{prefix}'}}
  plain: {{registry: plain, prefix: from}}
signing: {{generate: true}}
advisories: {{source: advisories}}
mirrors:
  inward: {{to: plain, prefix: mirrored, upstreams: [{{image: 'family/{signed}', tags: ['v*']}}]}}
  outward: {{to: family, prefix: '{mirrored}', upstreams: [{{image: plain/signed, tags: ['v*']}}]}}
syncs:
  fetch: {{source: family, repositories: ['{signed}', '{sibling}'], targets: [plain]}}
  deliver: {{source: plain, repositories: [signed, sibling], targets: [family]}}
retention:
  - {{registry: family, repositories: ['{old}'], keep_newest: 1, keep_days: 0}}
collect: {{recent: 0s}}
"""


class Matrix:
    """The registries of one family's run. Use as a context."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family = family
        self.folder = folder
        self._running = ExitStack()
        self.server = FamilyServer(family, folder / "family")
        self.plain = EmbeddedServer(folder / "plain", garbage_interval_s=None)

    def __enter__(self) -> Matrix:
        self._running.enter_context(self.server)
        self._running.enter_context(self.plain)
        self.here = self.connect(self.server.address)
        self.there = self.connect(self.plain.address)
        self._fill()
        self.chain = Chain(load(self._settings(), {"FAMILY_PASSWORD": self.password}))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def password(self) -> str:
        return self.family.user[1] if self.family.user else "none"

    def connect(self, address: str) -> DistributionRegistry:
        """A client that waits for nothing."""
        user, word = self.family.user if self.family.user and address == self.server.address else ("", "")
        client = DistributionRegistry(
            address, username=user, password=word, plain_http=True, retries=Retries(attempts=2, sleep=lambda _: None)
        )
        self._running.callback(client.close)
        return client

    def name(self, name: str) -> str:
        """A repository's name as the family wants it."""
        return self.family.repository.format(name=name)

    def layout_here(self, name: str) -> Layout:
        return self.server.layout(self.name(name))

    def layout_there(self, name: str) -> Layout:
        return self.plain.store.layout(name)

    def _fill(self) -> None:
        if self.family.needs_repositories:
            for name in (
                "signed",
                "sibling",
                "released",
                "old",
                "copied",
                "to/signed",
                "to/sibling",
                "to/released",
                "to/old",
                "rp-quarantine/old",
                "rp-quarantine/to/old",
            ):
                self.layout_here(name).create()
            self.layout_here("mirrored/signed").create()
        door = self.connect(self.server.behind) if self.family.read_only else self.here
        for registry, name in ((door, self.name), (self.there, str)):
            push_signed(Place(registry, name("signed")), self.family.tags)
            push_sibling(Place(registry, name("sibling")))
            push(Place(registry, name("released")), "v1.0.0")
            for tag in ("v1", "v2"):
                push(Place(registry, name("old")), tag, version=tag, provenance=False)

    def _settings(self) -> Path:
        write_advisory(self.folder / "advisories")
        path = self.folder / "registry-pipelines.yaml"
        account = f", username: '{self.family.user[0]}', password: '${{FAMILY_PASSWORD}}'" if self.family.user else ""
        names = {name: self.name(name) for name in ("released", "signed", "sibling", "old", "mirrored")}
        prefix = self.name("to/x").removesuffix("/x")
        path.write_text(
            SETTINGS.format(
                family=self.server.address,
                plain=self.plain.address,
                account=account,
                prefix=prefix,
                **names,
            )
        )
        return path

    def chain_with(self, old: str, new: str) -> Chain:
        """A chain over a changed configuration."""
        text = (self.folder / "registry-pipelines.yaml").read_text()
        assert old in text
        path = self.folder / "changed.yaml"
        path.write_text(text.replace(old, new))
        return Chain(load(path, {"FAMILY_PASSWORD": self.password}))

    def release(self, image: str) -> Release:
        place = self.chain.place(image)
        return Release(image, "v1.0.0", place.registry.resolve(place.repository, "v1.0.0").digest)

    # What both sides hold, without our client

    def check_same(self, source: Layout, target: Layout, *, but: tuple[str, ...] = ()) -> None:
        """The same manifests and tags, whole. but: tags that cannot be known."""
        assert manifests_of(source) == manifests_of(target)
        assert not missing_blobs(target)
        there, here = (
            {tag: found.digest for tag, found in each.tags().items() if not tag.startswith("sha256-") or "." in tag}
            for each in (source, target)
        )
        assert {tag: digest for tag, digest in there.items() if tag not in but} == here

    def provoke(self, row: Row) -> None:
        """Do what our client never does, so that the row is played."""
        if row.provoke:
            method, path, headers = row.provoke
            connection = http.client.HTTPConnection(self.server.address, timeout=patient(30))
            basic = base64.b64encode(":".join(self.family.user or ("", "")).encode()).decode()
            connection.putrequest(method, path.format(signed=self.name("signed")))
            for name, value in headers.items():
                connection.putheader(name, value.format(basic=f"Basic {basic}"))
            connection.endheaders()
            if headers.get("Transfer-Encoding") == "chunked":
                connection.send(b"0\r\n\r\n")
            connection.getresponse().read()
            connection.close()
