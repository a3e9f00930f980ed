"""The inbox of recordings: what nodes send, what an indexer takes out of it, and what strangers put in."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import NotFound, RecordingInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, artifact_manifest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot import inbox as rooms
from registry_pipelines.stream.hot import taking
from registry_pipelines.stream.hot.inbox import INBOX_TYPE, NOTE_TYPE, NodeNote, of_images, read_message, send, waiting
from registry_pipelines.stream.hot.recording import MEDIA_TYPE, PAGE_BYTES, Recording, encode
from registry_pipelines.stream.hot.recordings import find_recordings, publish_recording
from registry_pipelines.stream.hot.taking import Taken, take
from registry_pipelines.stream.hot.together import pages_in, together
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.stream.hot.packing import MIB, cut, image, recording

FILES = {"etc/motd": 6, "data/0": MIB, "data/1": MIB}


def note(node: str = "one", **more: str) -> NodeNote:
    return NodeNote(image=Digest.of(b""), recording=Digest.of(b""), node=node, **more)


def box(counted: Counted) -> Place:
    return Place(counted.place.registry, "inbox")


def told(what: Recording) -> set[tuple[str, int]]:
    return {(what.files[n].path, first + more) for n, first, count in what.touches for more in range(count)}


def taken(counted: Counted, key: Key, state: Path, image: Descriptor, **more: int) -> Taken:
    [(digest, messages)] = of_images(waiting(box(counted)))
    assert digest == image.digest
    return take(box(counted), messages, counted.place, image, signer=key.signer, state=state, **more)


def put(inbox: Place, tag: str, *layers: tuple[str, bytes], inline: bool = True, kind: str = INBOX_TYPE) -> None:
    """What a stranger puts there."""
    import base64

    made = []
    for media_type, content in layers:
        each = push_blob(inbox, content, media_type=media_type)
        data = base64.b64encode(content).decode() if inline and media_type == NOTE_TYPE else None
        made.append(msgspec.structs.replace(each, data=data))
    push_blob(inbox, b"{}", media_type="application/vnd.oci.empty.v1+json")
    inbox.registry.put_manifest(
        inbox.repository, artifact_manifest(artifact_type=kind, layers=made, subject=None), tag=tag
    )


def test_what_a_node_sends_is_there_once_and_says_nothing_of_who_runs_it(counted: Counted) -> None:
    release = image(counted.place)
    with pytest.raises(NotFound):
        waiting(box(counted))
    what = msgspec.structs.replace(recording(release.digest, FILES), command=(), gpu=True)
    sent = send(box(counted), what, note(carrier="fuse", kernel="6.18.44"))
    assert send(box(counted), what, note(carrier="fuse", kernel="6.18.44")) == sent
    listed = waiting(box(counted))
    [(digest, [one])] = of_images(listed)
    read = read_message(box(counted), one)
    assert (digest, read.recording, read.descriptor, listed.other) == (release.digest, what, sent, ())
    assert (read.note.carrier, read.note.kernel, read.note.pages) == ("fuse", "6.18.44", what.pages)
    assert counted.place.registry.referrers("inbox", release.digest) == []
    assert counted.place.registry.referrers("team/app", release.digest) == [], "no evidence of the image"


def test_several_nodes_are_one_signed_recording_and_a_pack_is_cut_of_it(
    counted: Counted, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place)
    before = recording(release.digest, {"etc/motd": 6, "data/0": MIB}, [("data/0", 9, 1), ("etc/motd", 0, 1)])
    publish_recording(counted.place, release, before, key.signer)
    orders = ([1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 2, 3])
    for number, pages in enumerate(orders):
        what = recording(release.digest, {"data/1": MIB}, [("data/1", page, 1) for page in pages])
        send(box(counted), msgspec.structs.replace(what, command=(), gpu=number == 2), note(f"node {number}"))
    done = taken(counted, key, tmp_path, release)
    assert (done.nodes, done.taken, done.deleted, done.notes()) == (4, 4, 4, [])
    assert done.published is not None and done.published.new_pages == 3 and not list(waiting(box(counted)).waiting)
    merged = find_recordings(counted.place, release.digest, key.verifier).merged
    assert merged is not None and told(merged) == {("data/0", 9), ("etc/motd", 0), *(("data/1", n) for n in (1, 2, 3))}
    data = [first for number, first, _ in merged.touches if merged.files[number].path == "data/1"]
    assert data == [1, 3] and merged.gpu and merged.command == ("python3", "app.py"), "1, 2, what was signed, 3"
    assert cut(counted.place, tmp_path, key, merged).pages_found == 5


def test_what_one_of_many_nodes_alone_says_does_not_count(counted: Counted, key: Key, tmp_path: Path) -> None:
    release = image(counted.place)
    for name in ("one", "two"):
        send(box(counted), recording(release.digest, {"etc/motd": 6, f"lib/{len(name)}.py": 15}), note(name))
    forged = recording(release.digest, FILES, [("data/1", 0, 256), ("data/0", 255, 1), ("etc/motd", 0, 1)])
    for number in range(3):  # as often as it likes
        less = msgspec.structs.replace(forged, touches=forged.touches[: number + 1])
        send(box(counted), less, note("three"))
    done = taken(counted, key, tmp_path, release)
    assert (done.nodes, done.taken, done.lone_pages) == (3, 5, 257), "and no file lib/3.py that has 15 bytes"
    assert done.published is not None and told(done.published.recording) == {("etc/motd", 0), ("lib/3.py", 0)}


def test_a_recording_of_other_files_or_another_image_is_dropped_and_said(
    counted: Counted, key: Key, tmp_path: Path
) -> None:
    release, other = image(counted.place), image(counted.place, tag="v2", more_mib=1)
    send(box(counted), recording(release.digest, {"etc/motd": 60, "data/9": MIB, "data": 9, "motd": 6}), note())
    mixed = recording(release.digest, {"etc/motd": 6, "../etc/shadow": 6})
    with pytest.raises(RecordingInvalid):
        send(box(counted), mixed, note())
    lies = recording(release.digest, {"etc/motd": 6, "home/me/.ssh/id": 400})
    files = (lies.files[0]._replace(sha256="ab" * 32), lies.files[1])
    send(box(counted), msgspec.structs.replace(lies, files=files, command=("rm", "-rf", "/"), tool="x"), note("two"))
    foreign = encode(recording(other.digest, {"etc/motd": 6}))
    forged = rooms.encode_json(note())
    put(box(counted), rooms.tag_of(release.digest, "", Digest.of(b"1")), (MEDIA_TYPE, foreign), (NOTE_TYPE, forged))
    named = msgspec.structs.replace(note(), image=release.digest, recording=Digest.of(foreign))
    put(
        *(box(counted), rooms.tag_of(release.digest, "", Digest.of(b"2")), (MEDIA_TYPE, foreign)),
        (NOTE_TYPE, rooms.encode_json(named)),
    )
    done = taken(counted, key, tmp_path, release)
    assert (done.nodes, done.taken, done.deleted) == (1, 1, 4) and done.files_dropped == 5
    assert sum(done.dropped.values()) == 3 and taking.NOTHING in done.dropped
    assert done.published is not None and told(done.published.recording) == {("etc/motd", 0)}
    [file] = done.published.recording.files
    assert file.sha256 != "ab" * 32 and done.published.recording.command == () and len(done.notes()) == 4
    assert find_recordings(counted.place, other.digest, key.verifier).merged is None


def test_what_is_no_message_is_dropped_whatever_it_is(counted: Counted, key: Key, tmp_path: Path) -> None:
    release = image(counted.place)
    good = encode(recording(release.digest, {"etc/motd": 6}))
    right = rooms.encode_json(msgspec.structs.replace(note(), image=release.digest, recording=Digest.of(good)))
    long = rooms.encode_json(msgspec.structs.replace(note("n" * 201), image=release.digest, recording=Digest.of(good)))
    bomb = os.urandom(taking.MOST_ENCODED_BYTES + 1)
    bomb_note = rooms.encode_json(msgspec.structs.replace(note(), image=release.digest, recording=Digest.of(bomb)))
    wrong: list[list[tuple[str, bytes]]] = [
        [(MEDIA_TYPE, good)],
        [(MEDIA_TYPE, good), (MEDIA_TYPE, b"x"), (NOTE_TYPE, right)],
        [(MEDIA_TYPE, good), (NOTE_TYPE, b"{")],
        [(MEDIA_TYPE, good), (NOTE_TYPE, long)],
        [(MEDIA_TYPE, good), (NOTE_TYPE, right.ljust(5000))],
        [(MEDIA_TYPE, b"none"), (NOTE_TYPE, right)],
        [(MEDIA_TYPE, bomb), (NOTE_TYPE, bomb_note)],
    ]
    for number, layers in enumerate(wrong):
        put(box(counted), rooms.tag_of(release.digest, "", Digest.of(bytes([number]))), *layers)
    put(box(counted), rooms.tag_of(release.digest, "", Digest.of(b"k")), (MEDIA_TYPE, good), kind="application/x")
    put(
        box(counted),
        rooms.tag_of(release.digest, "", Digest.of(b"i")),
        (MEDIA_TYPE, good),
        (NOTE_TYPE, right),
        inline=False,
    )
    put(box(counted), "latest", (MEDIA_TYPE, good))
    assert waiting(box(counted)).other == ("latest",)
    done = taken(counted, key, tmp_path, release)
    assert done.published is None and (sum(done.dropped.values()), done.deleted) == (9, 9), done.dropped
    assert waiting(box(counted)).waiting == () and counted.place.registry.referrers("team/app", release.digest) == []


def test_a_full_inbox_is_read_a_part_at_a_time(
    counted: Counted, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = image(counted.place)
    for number in range(7):
        send(box(counted), recording(release.digest, FILES, [("data/0", number, 1)]), note("same"))
    monkeypatch.setattr(taking, "MOST_MESSAGES", 3)
    assert [taken(counted, key, tmp_path, release).left for _ in range(2)] == [4, 1]
    send(box(counted), recording(release.digest, FILES, [("data/1", 0, 9)]), note("another"))
    monkeypatch.setattr(taking, "MOST_TOLD_PAGES", 1)
    assert [taken(counted, key, tmp_path, release).left for _ in range(2)] == [1, 0]
    monkeypatch.setattr(rooms, "MAX_TAGS", 1)
    for number in range(2):
        send(box(counted), recording(release.digest, FILES, [("data/0", number + 50, 1)]), note())
    assert waiting(box(counted)).more and len(waiting(box(counted)).waiting) == 1
    merged = find_recordings(counted.place, release.digest, key.verifier).merged
    assert merged is not None and merged.pages == 7 + 9
    late = taken(counted, key, tmp_path, release, max_bytes=3 * PAGE_BYTES)
    assert late.published is not None and (late.pages_left_out, late.published.new_pages) == (14, 1)


def test_a_registry_that_deletes_nothing_is_told_of_and_taking_again_changes_nothing(
    counted: Counted, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place)
    with FaultRegistry(counted.server.address) as faults:
        faults.play("DELETE", r"/v2/.*", Status(405))
        inbox = Place(DistributionRegistry(faults.address), "inbox")
        send(inbox, recording(release.digest, {"etc/motd": 6}), note())
        found = []
        for _ in range(2):
            [(_, messages)] = of_images(waiting(inbox))
            found.append(take(inbox, messages, counted.place, release, signer=key.signer, state=tmp_path))
        assert [each.published is not None and each.published.changed for each in found] == [True, False]
        assert not found[0].deleted and "left in the inbox" in found[0].notes()[0]
        inbox.registry.close()  # type: ignore[attr-defined]


def test_that_a_gpu_was_there_is_signed_although_no_page_is_new(counted: Counted, key: Key, tmp_path: Path) -> None:
    """Else each node with one would record the image, in vain."""
    release = image(counted.place)
    publish_recording(counted.place, release, recording(release.digest, {"etc/motd": 6}), key.signer)
    told = []
    for node in ("one", "two"):
        what = msgspec.structs.replace(recording(release.digest, {"etc/motd": 6}), gpu=True)
        send(box(counted), what, note(node))
        told.append(taken(counted, key, tmp_path, release).published)
    assert [each and (each.changed, each.new_pages, each.recording.gpu) for each in told] == [
        (True, 0, True),
        (False, 0, True),
    ]


def test_what_the_inbox_does_not_give_holds_nothing_up(counted: Counted, key: Key, tmp_path: Path) -> None:
    release = image(counted.place)
    with FaultRegistry(counted.server.address) as faults:
        inbox = Place(DistributionRegistry(faults.address), "inbox")
        for name in ("motd", "lost"):
            send(inbox, recording(release.digest, {"etc/motd": 6}), note(name))
        _, second = (each.tag for each in dict(of_images(waiting(inbox)))[release.digest])
        faults.play("GET", r"/v2/inbox/blobs/.*", Status(404))
        faults.play("GET", rf"/v2/inbox/manifests/{second}", Status(403))
        messages = waiting(inbox).waiting
        done = take(inbox, messages, counted.place, release, signer=key.signer, state=tmp_path)
        assert dict(done.dropped) == {"its recording is not there": 1}
        assert (done.left, done.deleted, done.published) == (1, 1, None) and "403" in done.notes()[-1], done.notes()
        faults.clear()
        again = take(inbox, messages, counted.place, release, signer=key.signer, state=tmp_path)
        assert (again.taken, again.left) == (1, 0) and not waiting(inbox).waiting, again.notes()
        inbox.registry.close()  # type: ignore[attr-defined]


PAGES = st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True)


@given(lists=st.lists(PAGES, min_size=1, max_size=6), most=st.integers(1, 100), signed=st.none() | PAGES)
def test_of_any_lists_each_page_is_there_once_in_an_order_that_many_have(
    lists: list[list[int]], most: int, signed: list[int] | None
) -> None:
    of = Digest.of(b"image")

    def one(pages: list[int]) -> Recording:
        return recording(of, {"data/0": MIB}, [("data/0", page, 1) for page in pages])

    found = together([one(each) for each in lists], believed=one(signed) if signed else None, max_pages=most)
    encode(found.recording)  # keeps all rules
    pages = {page for _, page in told(found.recording)}
    seen = [page for each in lists for page in each]
    counted = {page for page in seen if len(lists) < 3 or seen.count(page) > 1} | set(signed or ())
    assert pages <= counted and len(pages) == min(most, len(counted))
    assert found.pages_left_out == len(counted) - len(pages)
    if all(each == lists[0] for each in lists) and not signed:
        order = [first + more for _, first, count in found.recording.touches for more in range(count)]
        assert order == lists[0][:most]


def test_pages_in() -> None:
    assert (pages_in(1), pages_in(PAGE_BYTES * 3 + 1)) == (1, 3)
