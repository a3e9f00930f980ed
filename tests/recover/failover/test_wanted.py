"""What must have a second place: what channels name, what runs, and every tag that a mirror brought; at three
registries, each with names of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.transfer.copying import copy_closure
from tests.recover.failover.pairs import Pair, pair
from tests.scan.images import push_image

__all__ = ["pair"]

CONFIG = """\
registries:
  us: {{kind: distribution, host: "{us}"}}
  eu: {{kind: distribution, host: "{eu}"}}
  ap: {{kind: distribution, host: "{ap}"}}
images:
  app: {{registry: us, repository: team/app, targets: [eu, ap], channels: [beta, prod]}}
targets: {{eu: {{registry: eu, prefix: replica}}, ap: {{registry: ap}}}}
signing: {{generate: true}}
mirrors:
  hub: {{to: us, prefix: in, upstreams: [{{image: docker.io/library/app}}]}}
usage:
  cluster: {{kind: file, path: uses.txt}}
failover:
  prod:
    registries: [us, eu, {{registry: ap, prefix: copies}}]
    mirrors: [hub]
    {more}
"""


def uses(folder: Path, *lines: str) -> None:
    (folder / "uses.txt").write_text("\n".join([f"# at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", *lines, ""]))


def test_channels_what_runs_and_what_mirrors_brought_is_looked_for_at_three(pair: Pair, tmp_path: Path) -> None:
    us, eu = pair.place("us", "team/app"), pair.place("eu", "replica/team/app")
    beta = push_image(us, [{"a": "beta"}], tag="beta").digest
    ran = push_image(us, [{"a": "what runs, and no channel names any more"}], tag="v0.9").digest
    hub = push_image(pair.place("us", "in/library/app"), [{"a": "hub"}], tag="3.1").digest
    with EmbeddedServer(tmp_path / "ap") as server:
        for digest in (beta, ran):
            copy_closure(us, digest, [eu])
        eu.registry.put_manifest(eu.repository, eu.registry.get_manifest(eu.repository, beta), tag="beta")
        copy_closure(pair.place("us", "in/library/app"), "3.1", [pair.place("ap", "copies/in/library/app")])
        uses(tmp_path, f"{pair.us}/team/app@{ran} deployment web", "quay.io/others/thing@" + Digest.of(b"x"))

        def look(more: str, code: int) -> dict[str, dict[str, str]]:
            pair.configure(CONFIG, ap=server.address, more=more)
            told = pair.look(code=code)
            return {str(row["digest"]): row for row in told["rows"]}

        rows = look("", 0)
        assert set(rows) == {pair.digest, beta, ran, hub}
        assert rows[beta]["why"] == "beta" and rows[ran]["why"] == "in use: cluster: deployment web"
        assert rows[hub]["image"] == "docker.io/library/app" and rows[hub]["why"] == "3.1"
        assert [rows[hub][f"at {name}"] for name in ("us", "eu", "ap")] == ["there", "missing", "there"]
        assert rows[hub]["second place"] == "ap" and rows[beta]["second place"] == "eu"
        assert set(look("channels: [prod]", 0)) == {pair.digest, ran, hub}
        pair.place("ap", "copies/in/library/app").registry.delete_manifest("copies/in/library/app", hub)
        assert look("", 3)[str(hub)]["second place"] == "none"
        told = pair.look("--image", "docker.io/library/app:3.1", code=3)
        assert [row["digest"] for row in told["rows"]] == [hub]
        # A source that does not answer may run anything.
        (tmp_path / "uses.txt").unlink()
        pair.configure(CONFIG, ap=server.address, more="mirrors: []".replace("mirrors", "names"))
        assert any("cluster does not say what it runs" in each for each in pair.look(code=3)["reasons"])
