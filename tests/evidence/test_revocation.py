"""Certificates that were taken back: openssl says so, by OCSP and by a list; what nobody could say is no "good"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry_pipelines.evidence.revocation import MAX_AGE, Revocations
from registry_pipelines.oci.times import CLOCKS_DIFFER
from tests.doubles.authorities import Issued, OpensslRevocations, make_root, revocable

pytestmark = pytest.mark.peer("openssl")
ROOT = make_root()


@pytest.fixture
def answers(peer: Callable[[str], str], tmp_path: Path) -> OpensslRevocations:
    return OpensslRevocations(peer("openssl"), tmp_path / "ca", ROOT)


@pytest.fixture
def address(answers: OpensslRevocations) -> Iterator[str]:
    with answers.served() as address:
        yield address


@pytest.mark.parametrize("kinds", [("ocsp",), ("crl",), ("ocsp", "crl")])
def test_what_was_taken_back_is_refused(answers: OpensslRevocations, address: str, kinds: tuple[str, ...]) -> None:
    good, bad = (ROOT.issue(name, more=revocable(address, *kinds)) for name in ("good", "bad"))
    answers.list(good, revoked=False)
    answers.list(bad, revoked=True)
    revocations = Revocations()
    assert revocations(good.chain) == ""
    assert "CN=bad was taken back by its issuer at 20" in revocations(bad.chain)
    assert set(answers.asked) == {kinds[0]}


def test_a_certificate_that_names_nobody_cannot_be_taken_back() -> None:
    assert Revocations()(ROOT.issue("x").chain) == ""
    assert Revocations()(ROOT.chain) == ""


def test_the_list_answers_where_the_responder_does_not(answers: OpensslRevocations, address: str) -> None:
    leaf = ROOT.issue("x", more=revocable(address, "ocsp", "crl"))
    answers.list(leaf, revoked=False)
    answers.broken = "ocsp"
    assert Revocations()(leaf.chain) == ""
    assert answers.asked == ["ocsp", "crl"]
    answers.broken = "ocsp crl"
    assert "nobody could say (OCSP responder 127.0.0.1: it answered 503" in Revocations()(leaf.chain)


def test_what_nobody_could_say_is_unknown(answers: OpensslRevocations, address: str) -> None:
    stranger = ROOT.issue("stranger", more=revocable(address, "ocsp"))
    assert "does not know the certificate" in Revocations()(stranger.chain)
    elsewhere = ROOT.issue("x", more=revocable("ldap://127.0.0.1/", "crl"))
    assert "neither http nor https" in Revocations()(elsewhere.chain)
    of_another = make_root("another").issue("x", more=revocable(address, "crl"))
    assert "is not signed by the issuer" in Revocations()(of_another.chain)
    of_a_twin = make_root().issue("x", more=revocable(address, "ocsp"))
    assert "is not signed by the issuer" in Revocations()(of_a_twin.chain)


def test_a_responder_that_the_issuer_made_is_believed_and_no_other(peer: Callable[[str], str], tmp_path: Path) -> None:
    made: list[tuple[Issued, str]] = [
        (ROOT.issue("responder", uses=(ExtendedKeyUsageOID.OCSP_SIGNING,)), ""),
        (ROOT.issue("another leaf"), "is not signed by the issuer"),
        (make_root().issue("responder", uses=(ExtendedKeyUsageOID.OCSP_SIGNING,)), "nobody could say"),
        (
            ROOT.issue("responder", uses=(ExtendedKeyUsageOID.OCSP_SIGNING,), ends=timedelta(minutes=-1)),
            "was valid until",
        ),
    ]
    for number, (responder, words) in enumerate(made):
        answers = OpensslRevocations(peer("openssl"), tmp_path / str(number), ROOT, responder)
        with answers.served() as address:
            leaf = ROOT.issue("x", more=revocable(address, "ocsp"))
            answers.list(leaf, revoked=False)
            problem = Revocations()(leaf.chain)
            assert (words in problem) if words else problem == ""


@pytest.mark.parametrize("kind", ["ocsp", "crl"])
def test_an_answer_is_kept_for_an_hour_and_an_old_one_says_nothing(
    answers: OpensslRevocations, address: str, kind: str
) -> None:
    leaf, ahead = ROOT.issue("x", more=revocable(address, kind)), [timedelta()]
    answers.list(leaf, revoked=False)
    revocations = Revocations(lambda: datetime.now(UTC) + ahead[0])  # openssl's clock stands still for nobody
    assert revocations(leaf.chain) == revocations(leaf.chain) == ""
    assert len(answers.asked) == 1
    ahead[0] += MAX_AGE
    answers.list(leaf, revoked=True)
    assert "was taken back" in revocations(leaf.chain)
    answers.list(leaf, revoked=False)
    ahead[0] += timedelta(days=3)
    assert "is not of now" in revocations(leaf.chain)


@pytest.mark.parametrize("kind", ["ocsp", "crl"])
def test_an_authority_whose_clock_is_ahead_of_ours_is_believed_and_none_of_the_future(
    answers: OpensslRevocations, address: str, kind: str
) -> None:
    leaf = ROOT.issue("x", more=revocable(address, kind))
    answers.list(leaf, revoked=False)
    assert Revocations(lambda: datetime.now(UTC) - CLOCKS_DIFFER / 2)(leaf.chain) == ""
    assert "is not of now" in Revocations(lambda: datetime.now(UTC) - 2 * CLOCKS_DIFFER)(leaf.chain)
