"""Who stands in for a registry: every registry is really asked, and stopped, frozen or robbed of an image here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer, Response
from registry_pipelines.registry.embedded.http_server import Handler
from registry_pipelines.transfer.copying import copy_closure
from tests.chain.fleet import push
from tests.doubles.certificates import make_certificates
from tests.recover.failover.pairs import CONFIG, Pair, frozen, pair

__all__ = ["pair"]


def test_each_image_is_asked_for_at_every_registry_and_what_nodes_would_do_is_told(pair: Pair) -> None:
    told = pair.look()
    assert told["facts"]["order"] == "us, eu" and told["facts"]["without_second_place"] == 0 and not told["changed"]
    [row] = told["rows"]
    assert row["digest"] == pair.digest and row["at us"] == row["at eu"] == "there" and row["second place"] == "eu"
    assert [
        (each["when"], each["asked"], each["images that nodes cannot pull"]) for each in told["tables"]["order"]
    ] == [
        ("now", "us, eu", 0),
        ("us fails", "eu", 0),
        ("eu fails", "us", 0),
    ]
    nodes = {each["form"]: each for each in told["tables"]["nodes"]}
    assert nodes["hosts-toml"]["gets it from"] == "us" and nodes["hosts-toml"]["else from"] == "eu"
    assert nodes["docker"]["gets it from"] == "cannot be told in this form"
    assert any("Docker knows mirrors of nothing else" in note for note in told["notes"])


def test_an_image_without_a_second_place_is_the_finding(pair: Pair) -> None:
    """Missing, incomplete, or by another name: a node would find out in the worst hour."""
    there = pair.place("eu", "replica/team/app")
    manifest = there.registry.get_manifest("replica/team/app", pair.digest)
    layer = next(iter(manifest.content().layers))  # type: ignore[union-attr]
    blob = pair.folder / "eu" / "replica/team/app" / "blobs" / "sha256" / layer.digest.hex
    assert blob.exists()
    blob.unlink()
    told = pair.look(code=3)
    [reason] = [each for each in told["reasons"] if "only us has it" in each]
    assert f"blob {layer.digest.short}" in reason and told["facts"]["without_second_place"] == 1
    there.registry.delete_manifest("replica/team/app", pair.digest)
    told = pair.look(code=3)
    assert any("only us has it; eu missing" in each for each in told["reasons"])
    assert (
        told["rows"][0]["second place"] == "none" and told["tables"]["order"][1]["images that nodes cannot pull"] == 1
    )
    moved = push(there, "prod", package="otherwheel")
    copy_closure(pair.place("us", "team/app"), pair.digest, [there])
    told = pair.look(code=3)
    assert told["facts"]["without_second_place"] == 0
    assert any(f"app:prod names {moved.digest.short}" in each and "at eu" in each for each in told["reasons"])


def test_images_that_a_person_asks_about_are_looked_for_alone(pair: Pair) -> None:
    told = pair.look("prod", "--image", "tool:v1", code=3)
    assert [each["image"] for each in told["rows"]] == ["tool"] and "only us has it" in told["reasons"][0]
    for text in (f"app@{pair.digest}", f"{pair.us}/team/app:prod", "app"):
        assert pair.look("--image", text)["rows"][0]["digest"] == pair.digest
    assert "is no image of the fail-over prod" in pair.look("--image", "quay.io/a/b", code=8)["what"]
    assert "no registry has app:v9" in pair.look("--image", "app:v9", code=4)["what"]
    assert "did you mean `prod`" in pair.look("prd", code=8)["what"]


def test_a_registry_that_is_stopped_or_frozen_is_asked_last_and_the_look_ends_in_time(
    pair: Pair, tmp_path: Path
) -> None:
    stopped = "127.0.0.1:9"
    pair.configure(us=stopped)
    told = pair.look(code=3)
    health = {each["registry"]: each for each in told["tables"]["health"]}
    assert health["us"]["state"] == "down" and health["us"]["looks"] == 2 and health["eu"]["state"] == "up"
    assert told["facts"]["order"] == "eu, us" and told["rows"][0]["at us"] == "unknown: it is down"
    assert any("only eu has it" in each for each in told["reasons"])
    assert told["next_steps"] == ["registry-pipelines recover failover prod --to FOLDER"]
    with frozen() as host:
        for more in ("", ", plain_http: false"):
            pair.configure(CONFIG.replace('host: "{us}"', f'host: "{host}"{more}'), timeout="300ms")
            told = pair.look(code=3)
            [state] = [each for each in told["tables"]["health"] if each["registry"] == "us"]
            assert state["why"] == "no answer within 300ms" and state["looks"] == 2


def test_what_only_the_lost_registry_had_is_not_forgotten_with_it(pair: Pair) -> None:
    """Nobody else can name it: without what an earlier look kept, nothing would seem to be missing."""
    pair.configure(us="127.0.0.1:9")
    told = pair.look(code=3)
    assert any("us does not answer, and what it has was never looked at before" in each for each in told["reasons"])
    pair.configure()
    there = pair.place("eu", "replica/team/app")
    there.registry.delete_manifest("replica/team/app", pair.digest)
    pair.look(code=3)
    pair.configure(us="127.0.0.1:9")
    told = pair.look(code=3)
    [row] = told["rows"]
    assert row["digest"] == pair.digest and "as us said on 20" in row["why"] and told["facts"]["nowhere"] == 1
    told = pair.run("--to", str(pair.folder / "out"), code=3)  # the files are the better ones all the same
    assert "no registry has it" in told["reasons"][0] and told["changed"]
    kept = pair.folder / ".registry-pipelines" / "recover" / "prod-failover.json"
    kept.write_text(kept.read_text()[:-9])
    assert "cannot be read" in pair.look(code=9)["what"]


def test_a_registry_that_lost_its_content_does_not_pass_for_one_that_needs_none(pair: Pair) -> None:
    """It answers as well as before."""
    pair.look()
    pair.place("us", "team/app").registry.delete_manifest("team/app", pair.digest)
    for _ in range(2):  # and it is not forgotten by the look that saw it
        told = pair.look(code=3)
        assert any("app:prod names nothing at us, and did in an earlier look" in each for each in told["reasons"])
        assert told["rows"][0]["at us"] == "missing" and told["rows"][0]["at eu"] == "there"
    (pair.folder / ".registry-pipelines" / "recover" / "prod-failover.json").unlink()
    assert "no image was looked for" in pair.look(code=3)["reasons"][0]


def test_a_registry_that_answers_the_look_and_no_more_is_no_second_place(pair: Pair) -> None:
    """Unknown is no pass."""

    def fails(answer: Handler) -> Handler:
        return lambda request: answer(request) if request.path == "/v2/" else Response(503, [], b"")

    with EmbeddedServer(pair.folder / "eu", wrap=fails) as server:
        pair.configure(eu=server.address)
        told = pair.look(code=3)
    assert told["facts"]["down"] == 0 and told["facts"]["without_second_place"] == 1
    assert told["rows"][0]["at eu"].startswith("unknown: ") and "only us has it; eu unknown" in told["reasons"][0]


def test_the_files_of_the_new_order_are_written_and_none_where_nothing_can_serve(pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert CliRunner().invoke(main, ["recover", "failover", "--config", str(pair.path)]).exit_code == 2
    pair.configure(us="127.0.0.1:9")
    old = out / "hosts-toml" / "old.example.com" / "hosts.toml"
    for folder in (out / "docker", old.parent):
        folder.mkdir(parents=True)
    old.write_text("")
    told = pair.run("--to", str(out))
    assert any("docker is of an earlier run" in note for note in told["notes"])
    assert f"{old} is of an earlier run, and no more true" in told["notes"]
    (out / "docker").rmdir()
    old.unlink()
    assert told["changed"] and "us is down after 2 looks" in " ".join(told["notes"])
    lines = (out / "hosts-toml" / "127.0.0.1:9" / "hosts.toml").read_text()
    assert lines.index(f'[host."http://{pair.eu}/v2/replica"]') < lines.index('[host."http://127.0.0.1:9/v2"]')
    assert (out / "registries-yaml" / "registries.yaml").exists() and not (out / "docker").exists()
    written = {each["file"] for each in told["tables"]["files"]}
    assert written == {str(path) for path in out.rglob("*") if path.is_file()}
    pair.place("eu", "replica/team/app").registry.delete_manifest("replica/team/app", pair.digest)
    pair.place("eu", "replica/team/app")
    assert pair.run("--to", str(tmp_path / "missing"), "--image", f"app@{pair.digest}", code=3)["facts"]["nowhere"] == 1
    pair.configure(us="127.0.0.1:9", eu="127.0.0.1:9")
    pair.path.write_text(pair.path.read_text().replace('host: "127.0.0.1:9"}', 'host: "127.0.0.1:10"}', 1))
    assert "no registry of it can serve" in pair.run("--to", str(tmp_path / "none"), code=7)["what"]
    assert not (tmp_path / "none").exists()
    assert pair.look(code=3)["facts"]["down"] == 2


def test_an_order_is_written_whole_or_not_at_all(pair: Pair, tmp_path: Path) -> None:
    """Nodes that read a mix of two orders would ask a registry that is gone."""
    out = tmp_path / "out"
    pair.run("--to", str(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    last = out / "registries-yaml" / "registries.yaml"
    pair.configure(us="127.0.0.1:9")
    last.unlink()
    last.mkdir()
    assert "cannot be kept there" in pair.run("--to", str(out), code=9)["what"]
    now = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert now == {path: raw for path, raw in before.items() if path != last}


def test_accounts_and_certificates_are_part_of_the_look(pair: Pair, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", "images.example.com")
    with ExitStack() as stack:
        server = EmbeddedServer(
            tmp_path / "eu", users={"robot": "s3cret"}, certificate=made.certificate, key=made.key, tokens=True
        )
        host = stack.enter_context(server).address
        trusted = f', plain_http: false, ca_file: "{made.ca}"'
        login = ', username: robot, password: "${{SECRET}}"'
        pair.configure(CONFIG.replace("{more}", trusted + login), eu=host)
        told = pair.look()
        [state] = [each for each in told["tables"]["health"] if each["registry"] == "eu"]
        assert state["certificate until"] > "2026" and state["why"] == ""
        # Ends within 30 days, which is soon for who wants to know of it two months before.
        text = CONFIG.replace("pause: 10ms", "pause: 10ms, certificate: 60d").replace("{more}", trusted + login)
        pair.configure(text, eu=host)
        assert any(each.startswith("eu: its certificate ends in 29 days") for each in pair.look()["notes"])
        for more, word in ((trusted, "401"), (", plain_http: false" + login, "not believed")):
            pair.configure(CONFIG.replace("{more}", more), eu=host)
            told = pair.look(code=3)
            [state] = [each for each in told["tables"]["health"] if each["registry"] == "eu"]
            assert state["state"] == "down" and word in state["why"], state
        assert "s3cret" not in json.dumps(told)


def test_a_known_digest_must_be_at_each(pair: Pair) -> None:
    for digest, code in ((pair.digest, 0), (Digest.of(b"nothing"), 3)):
        pair.configure(CONFIG.replace("pause: 10ms", f"pause: 10ms, digest: 'team/app@{digest}'"))
        told = pair.look(code=code)
        assert told["facts"]["down"] == (2 if code else 0)
    assert all("which it must have" in each["why"] for each in told["tables"]["health"])
