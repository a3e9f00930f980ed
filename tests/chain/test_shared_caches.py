"""Chains on several machines, each with a state folder of its own, over one configuration that shares a state."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.oci.behind import behind
from registry_pipelines.shared.state import SharedState
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet

__all__ = ["fleet"]


def on_machine(fleet: Fleet, postgres_url: str, folder: Path) -> Chain:
    """The chain of another machine: the same file, and what its environment says."""
    environment = {
        "REGISTRY_PIPELINES_STATE": str(folder / "own"),
        "REGISTRY_PIPELINES_DATABASE": postgres_url,
        "REGISTRY_PIPELINES_STORE": f"file://{folder.parent / 'store'}",
    }
    return Chain(load(fleet.path, environment))


def test_what_one_machine_scanned_the_other_does_not_read(fleet: Fleet, postgres_url: str, tmp_path: Path) -> None:
    key = fleet.chain.config.state / "keys" / "signing.key"
    release = fleet.release("1.0")
    fleet.chain.sign(release)  # makes the key that all machines have
    fleet.path.write_text(fleet.path.read_text().replace("{generate: true}", f"{{key: {key}}}"))
    first, second = (on_machine(fleet, postgres_url, tmp_path / name) for name in ("a", "b"))
    shared = first._session.shared
    assert isinstance(shared, SharedState)
    assert behind(second.config.state / "layers") is shared.caches
    made = first.sbom(release)
    assert shared.caches.settle()
    sent = shared.caches.counts().sent
    assert sent >= 3, "facts and a listing of the layer, and what the image has"
    assert second.sbom(release).facts == made.facts
    assert shared.caches.settle()
    counts = shared.caches.counts()
    assert (counts.sent, counts.failed) == (sent, 0), "nothing was read again"
    assert [path.name for path in (second.config.state / "scan").glob("v*/*")] == ["images"]
