"""What a configuration with a shared database makes of limits and locks."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from registry_pipelines.chain.places import Places
from registry_pipelines.chain.shared import shared_of
from registry_pipelines.config import load
from registry_pipelines.errors import RateLimited
from registry_pipelines.registry.client.locks import one_writer
from tests.doubles.workers import worker
from tests.patience import patient

SETTINGS = """
registries:
  far: {kind: distribution, host: registry.example.com, bandwidth: [1MB/s]}
"""


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGISTRY_PIPELINES_DATABASE", postgres_url)
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS)
    return path


def test_the_limits_of_a_configuration_are_those_of_all_workers(settings: Path, postgres_url: str) -> None:
    other, config = worker(postgres_url), load(settings)
    limits = Places(config).limits
    bandwidth = limits.bandwidth("registry.example.com")
    assert bandwidth is not None
    limits.window("registry.example.com", "append").note(RateLimited("slow down", retry_after_s=200))
    bandwidth.spend(1000)
    until = threading.Event()
    while not (stopped := other.budgets.line("registry.example.com append").wait_s()):
        assert not until.wait(0.1)
    assert 100 < stopped <= 200
    assert other.budgets.line("registry.example.com bytes").reserve(100_000_000, 1_000_000) > 90
    assert not (config.state / "limits").exists()


def test_a_fallback_tag_is_written_by_one_worker_at_a_time(settings: Path, postgres_url: str) -> None:
    shared_of(load(settings))
    other, written = worker(postgres_url), threading.Event()
    name = hashlib.sha256(b"registry.example.com\nteam/app\nsha256:abc").hexdigest()
    lease = other.leases.attempt(f"fallback-tag/{name}")
    assert lease is not None

    def write() -> None:
        with one_writer("registry.example.com", "team/app", "sha256:abc"):
            written.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert not written.wait(0.5)
    other.leases.leave(lease)
    assert written.wait(patient(10))
    thread.join()
    again = other.leases.attempt(f"fallback-tag/{name}")
    assert again is not None
    other.leases.leave(again)
