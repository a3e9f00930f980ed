"""The configured journal: everything that copies uses it, and nothing shows its password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared import server
from tests.chain.fleet import Fleet, check_receipt, push
from tests.doubles.postgres import ESCAPED, PASSWORD
from tests.doubles.workers import shared_journal
from tests.needs import needed_module

EXTRA = """\
shared: {database: "${JOURNAL_URL}"}
syncs:
  bases: {source: us, repositories: [bases/python], targets: [eu]}
"""


def with_journal(fleet: Fleet, url: str) -> Chain:
    fleet.path.write_text(fleet.path.read_text() + EXTRA)
    return Chain(load(fleet.path, {"JOURNAL_URL": url}))


def layer_of(place: Place, tag: str) -> Digest:
    found = place.registry.get_manifest(place.repository, tag)
    return Digest(json.loads(found.raw)["layers"][0]["digest"])


def held(url: str, place: Place, tag: str) -> bool:
    """Whether the journal knows that the place has the layer of the image."""
    journal = shared_journal(url)
    try:
        return bool(journal.holders(place.registry.name, [layer_of(place, tag)]))
    finally:
        journal.close()


def local_journals(chain: Chain) -> list[Path]:
    return list(chain.config.state.rglob("transfers.sqlite*"))


def test_syncs_replicas_and_mirrors_keep_the_configured_journal(fleet: Fleet, postgres_url: str) -> None:
    chain = with_journal(fleet, postgres_url)
    us, eu, private = (chain.registry(name) for name in ("us", "eu", "private"))
    push(Place(us, "bases/python"), "1.0", package="base")
    push(Place(us, "up/stream"), "1.0", package="upstream")
    assert chain.sync("bases").ok
    assert held(postgres_url, Place(eu, "bases/python"), "1.0")

    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    chain.promote(release)
    assert chain.replicate(release, "eu").ok
    assert held(postgres_url, Place(eu, "team/app"), "v1.0.0")
    assert chain.mirror_release(release, "airgap").ok
    assert held(postgres_url, Place(private, "in/team/app"), "v1.0.0")
    assert chain.mirror("airgap").ok
    assert held(postgres_url, Place(private, "in/up/stream"), "1.0")

    assert not local_journals(chain)
    check_receipt(chain, Place(eu, "team/app"), "v1.0.0")


def test_commands_keep_it_too(fleet: Fleet, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_URL", postgres_url)
    chain = with_journal(fleet, postgres_url)
    place = Place(chain.registry("us"), "tools/one")
    push(place, "1.0", package="one")
    for words, copied in (
        (["copy", "us/tools/one:1.0", "gcp/copied"], Place(chain.registry("gcp"), "copied")),
        (["sync", "us/tools", "dmz/synced"], Place(chain.registry("dmz"), "synced/tools/one")),
    ):
        found = CliRunner().invoke(main, [*words, "--config", str(fleet.path)])
        assert found.exit_code == 0, found.output
        assert held(postgres_url, copied, "1.0")
    assert not local_journals(chain)


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        (f"postgresql://rp:{ESCAPED}@127.0.0.1:1/journal", 9, "127.0.0.1:1/journal"),
        (
            f"postgresql://rp:{PASSWORD}@127.0.0.1:1/journal",
            8,
            "shared.database: what ${JOURNAL_URL} holds is not",
        ),
        (f"mysql://rp:{ESCAPED}@127.0.0.1:1/journal", 8, "expected the address of a Postgres database"),
        ("", 8, "expected the address of a Postgres database"),
    ],
)
def test_a_journal_that_cannot_be_used_is_told_without_its_password(
    url: str, code: int, message: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --debug the traceback with its causes is printed, as Dagster shows it."""
    needed_module("psycopg", "postgres")
    monkeypatch.setattr(server, "START_S", 0.1)
    monkeypatch.setenv("JOURNAL_URL", url)
    fleet.path.write_text(fleet.path.read_text() + EXTRA)
    for words in (["sync", "bases"], ["sync", "bases", "--debug"], ["sync", "bases", "--json"]):
        found = CliRunner().invoke(main, [*words, "--config", str(fleet.path)], env={"COLUMNS": "400"})
        assert found.exit_code == code, found.output
        assert message in found.output
        assert not [piece for piece in ("s3cret", "w/rd", "w%2Frd") if piece in found.output]
