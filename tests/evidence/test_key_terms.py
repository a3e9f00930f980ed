"""Several keys in a role, one after the other: what is retired is believed until a day, what is revoked for nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, KeyRefused, SignatureInvalid
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.key_terms import Terms, read_revoked
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE, VERDICT_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.cosign import sign_image, verify_image
from tests.evidence.parts import Key

MakeKey = Callable[[str], Key]
TODAY = datetime.now(UTC).date()
LATER, BEFORE = TODAY + timedelta(days=2), TODAY - timedelta(days=2)  # two: midnight may pass while a test runs


def revoked(folder: Path, *keys: Key) -> Path:
    path = folder / "revoked.txt"
    lines = [f"{key.signer.key_id}  a laptop was stolen, INC-{number}" for number, key in enumerate(keys)]
    path.write_text("\n".join(["# keys nobody believes", "", *lines, ""]))
    return path


def test_signatures_of_the_key_before_count_until_their_day(
    place: Place, image: Descriptor, key: Key, other_key: Key
) -> None:
    sign_image(place, image, other_key.signer, identity=str(place))
    attest(place, image, PROVENANCE_TYPE, {}, other_key.signer)
    files = [key.public, other_key.public]
    still = load_verifier(files, until={other_key.public: LATER})
    assert {each.key_id for each in verify_image(place, image.digest, still).signatures} == {other_key.signer.key_id}
    assert len(read_attestations(place, image.digest, still, predicate_type=PROVENANCE_TYPE).verified) == 1
    assert still.believed(PROVENANCE_TYPE) == tuple(sorted((key.signer.key_id, other_key.signer.key_id)))
    over = load_verifier(files, until={other_key.public: BEFORE})
    with pytest.raises(SignatureInvalid, match=f"is retired and was believed until {BEFORE}"):
        verify_image(place, image.digest, over)
    found = read_attestations(place, image.digest, over)
    assert not found.verified and all("is retired" in each.reason for each in found.rejected)
    assert over.believed(PROVENANCE_TYPE) == (key.signer.key_id,) == over.key_ids
    sign_image(place, image, key.signer, identity=str(place))
    assert {each.key_id for each in verify_image(place, image.digest, over).signatures} == {key.signer.key_id}


def test_the_last_day_itself_counts() -> None:
    terms = Terms(until={"sha256:a": date(2027, 3, 31)})
    assert terms.against("sha256:a", today=date(2027, 3, 31)) == ""
    assert terms.against("sha256:a", today=date(2027, 4, 1)) == "is retired and was believed until 2027-03-31"
    assert terms.against("sha256:b", today=date(2099, 1, 1)) == ""


def test_the_earliest_of_several_days_counts(tmp_path: Path, other_key: Key, key: Key) -> None:
    copy = tmp_path / "copy.pub"
    copy.write_bytes(other_key.public.read_bytes())
    for days in ({copy: BEFORE, other_key.public: LATER}, {other_key.public: LATER, copy: BEFORE}):
        verifier = load_verifier([key.public, other_key.public, copy], until=days)
        with pytest.raises(KeyRefused):
            verifier.verify(b"x", other_key.signer.sign(b"x"))


def test_a_revoked_key_is_believed_in_no_role(
    place: Place, image: Descriptor, tmp_path: Path, make_key: MakeKey, key: Key, other_key: Key
) -> None:
    """Also where it is trusted for one role alone, beside a key of the same role, and retired until a later day."""
    builder = make_key("builder")
    for signer in (builder.signer, other_key.signer):
        attest(place, image, PROVENANCE_TYPE, {"by": signer.key_id}, signer)
        attest(place, image, VERDICT_TYPE, {"by": signer.key_id}, signer)
    verifier = load_verifier(
        [key.public, other_key.public],
        {"builder": [builder.public, other_key.public]},
        until={other_key.public: LATER},
        revoked=revoked(tmp_path, other_key),
    )
    found = read_attestations(place, image.digest, verifier)
    assert [each.key_id for each in found.verified] == [builder.signer.key_id]
    reasons = [each.reason for each in found.rejected]
    assert sum("is revoked (a laptop was stolen, INC-0)" in each for each in reasons) == 2
    assert verifier.believed(PROVENANCE_TYPE) == (builder.signer.key_id,)
    assert verifier.believed(VERDICT_TYPE) == (key.signer.key_id,)
    also = verifier.also({"promoter": other_key.signer})
    with pytest.raises(KeyRefused):
        also.verify(b"x", other_key.signer.sign(b"x"))


def test_when_all_are_revoked_nothing_is_believed(
    place: Place, image: Descriptor, tmp_path: Path, key: Key, other_key: Key
) -> None:
    sign_image(place, image, key.signer, identity=str(place))
    verifier = load_verifier([key.public], revoked=revoked(tmp_path, key, other_key))
    with pytest.raises(SignatureInvalid, match="is revoked"):
        verify_image(place, image.digest, verifier)
    assert verifier.key_ids == () == verifier.believed(PROVENANCE_TYPE)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("sha256:abc stolen", 2),
        ("sha256:" + "a" * 64, 2),
        ("sha256:" + "A" * 64 + " stolen", 2),
        ("keys/old.pub stolen", 2),
        ("sha256:" + "a" * 64 + " " + "x" * 300, 2),
    ],
)
def test_a_list_with_a_line_that_cannot_be_read_is_refused_whole(line: str, number: int) -> None:
    raw = f"sha256:{'b' * 64} good\n{line}\n".encode()
    with pytest.raises(InputError, match=f"line {number} of the list of revoked keys") as caught:
        read_revoked(raw, where="revoked.txt")
    assert caught.value.where == "revoked.txt"


def test_lists_are_written_as_people_write_them() -> None:
    raw = f"\ufeff# ours\r\n\r\n  sha256:{'a' * 64}\tleft the team \r\nsha256:{'b' * 64} lost\r\n".encode()
    assert read_revoked(raw, where="x") == {f"sha256:{'a' * 64}": "left the team", f"sha256:{'b' * 64}": "lost"}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_refused(raw: bytes) -> None:
    try:
        assert all(key_id.startswith("sha256:") and reason for key_id, reason in read_revoked(raw, where="x").items())
    except InputError as error:
        assert "list of revoked keys" in error.what


def test_a_list_that_is_missing_is_an_error(tmp_path: Path, key: Key) -> None:
    with pytest.raises(InputError):
        load_verifier([key.public], revoked=tmp_path / "none.txt")
