"""``config check`` looks whether what a file names is on this machine: everything in one list, with its line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.evidence.keys import generate_key
from tests.config.files import problems, written

IMAGES = """\
registries:
  here: {kind: embedded, port: 5501%s}
images:
  app: {registry: here, repository: team/app, promote: manual, build: {version: v1%s}}
"""


def seen(folder: Path, text: str, **environment: str) -> tuple[list[str], list[str]]:
    """Problems and notes, each without the file's path."""
    path = written(folder, text)
    try:
        found, notes = [], list(load(path, environment, look=True).notes)
    except ConfigInvalid as error:
        found, notes = error.problems, [note.removeprefix("note: ") for note in getattr(error, "__notes__", ())]
    return [each.removeprefix(str(path)) for each in found], [each.removeprefix(str(path)) for each in notes]


@pytest.mark.peer("openssl")
def test_files_and_folders_that_are_not_there_stand_in_one_list(tmp_path: Path) -> None:
    """Also beside what is wrong by itself. Loading for work looks for none: a machine may have another part to do."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    build = """,
    application: gone, wheels: file, requirements_file: folder,
    find_links: [https://wheels.example.com/, missing], requirements: [numpy, "-r nested.txt"]"""
    text = IMAGES % (", tls_cert: none.crt, tls_key: none.key", build) + (
        "advisories: {source: osv.zip}\nsigning: {generate: true, person: {trusted: [keys/p.pub]}}\n"
        "notify: {command: [./tell]}\n"
    )
    found, _ = seen(tmp_path, text)
    assert found == [
        f":2: registries.here.tls_cert: there is no file {tmp_path}/none.crt",
        f":2: registries.here.tls_key: there is no file {tmp_path}/none.key",
        f":5: images.app.build.application: there is no folder {tmp_path}/gone",
        f":5: images.app.build.requirements_file: {tmp_path}/folder is a folder, and a file is wanted",
        f":5: images.app.build.wheels: {tmp_path}/file is a file, and a folder is wanted",
        f":6: images.app.build.find_links[1]: there is no file or folder {tmp_path}/missing",
        f":7: advisories.source: there is no file or folder {tmp_path}/osv.zip",
        f":8: signing.person.trusted[0]: there is no file {tmp_path}/keys/p.pub",
    ]
    load(written(tmp_path, text), {})
    (tmp_path / "keys").mkdir()
    made = generate_key(tmp_path / "keys" / "p.key")
    (tmp_path / "osv.zip").touch()
    (tmp_path / "missing").mkdir()
    text = text.replace("application: gone, wheels: file, requirements_file: folder,", "")
    (tmp_path / "none.key").write_text(made.private.read_text())
    (tmp_path / "none.crt").write_bytes(certificate_of(made.private))
    found, _ = seen(tmp_path, text)
    assert found == [
        f":6: images.app.build.requirements: {tmp_path}/nested.txt: the requirements file cannot be read: "
        "No such file or directory",
        ":9: notify.command: there is no program ./tell",
    ]
    found, _ = seen(tmp_path, text + "sensors: {intervall: 3s}\nadvisoriess: {}\n")
    assert len(found) == 2


def test_keys_that_cannot_sign_or_are_not_believed(tmp_path: Path) -> None:
    text = IMAGES % ("", "")
    at = tmp_path / ".registry-pipelines" / "keys" / "signing.key"
    found, notes = seen(tmp_path, text)
    assert found == [
        f":1: signing.key: there is no key {at} to sign with; `registry-pipelines sign --generate-key` makes it"
    ]
    assert notes == []
    assert seen(tmp_path, "registries: {here: {kind: embedded, port: 5501}}\n") == ([], [])
    made = generate_key(tmp_path / "k.key", password="right")
    locked = text + "signing: {key: k.key, password: '${WORD}'}\n"
    assert seen(tmp_path, locked, WORD="right") == ([], [])
    [wrong], _ = seen(tmp_path, locked, WORD="wrong")
    assert wrong.startswith(f":5: signing.key: {made.private}: the private key cannot be decrypted: wrong password")
    made.private.chmod(0o640)
    _, [loose] = seen(tmp_path, locked, WORD="right")
    readable = f"others may read the private key {made.private} (mode 0640): chmod 600 {made.private}"
    assert loose == f":5: signing.key: {readable}"
    made.public.rename(tmp_path / "elsewhere.pub")
    [half], [again] = seen(tmp_path, locked, WORD="right")
    assert f"openssl pkey -in {made.private} -pubout -out {made.public}" in half and again == loose
    made.private.write_text("nonsense")
    [broken, _], _ = seen(tmp_path, locked, WORD="right")
    assert "the private key cannot be read" in broken


@pytest.mark.peer("openssl")
def test_what_would_end_every_judgement_is_told_before_one(tmp_path: Path) -> None:
    """No OpenVEX document, a private key that is to be believed, a webhook's key of another certificate."""
    made = generate_key(tmp_path / "k.key")
    other = generate_key(tmp_path / "other.key")
    (tmp_path / "bad.json").write_text('{"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{}]}')
    (tmp_path / "tls.crt").write_bytes(certificate_of(made.private))
    text = IMAGES % ("", "") + (
        "signing: {key: k.key}\n"
        "trust: {attestors: {qa: {attests: [approval], keys: [k.pub, other.key]}}}\n"
        "policies: {lab: {vex: [bad.json]}}\n"
        "admission: {tls_cert: tls.crt, tls_key: %s}\n"
    )
    found, _ = seen(tmp_path, text % "other.key")
    assert [each.partition(": ")[0] + ": " + each.split(": ")[1] for each in found] == [
        ":6: trust.attestors.qa.keys[1]",
        ":7: policies.lab.vex[0]",
        ":8: admission.tls_key",
    ]
    assert f"{other.private}: this is a private key" in found[0]
    assert f"{tmp_path}/bad.json: this OpenVEX document is not valid" in found[1]
    assert f"{other.private} is not the private key of {tmp_path}/tls.crt" in found[2]
    (tmp_path / "bad.json").unlink()
    text = text.replace(", other.key", "").replace("vex: [bad.json]", "")
    assert seen(tmp_path, text % "k.key") == ([], [])


@pytest.mark.peer("openssl")
def test_files_that_are_here_and_that_nobody_could_use(tmp_path: Path) -> None:
    """Of authorities without a certificate, of a server's certificate and another's key, of accounts without hashes."""
    for name in ("one", "other"):
        made = generate_key(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.crt").write_bytes(certificate_of(made.private))
    cut = (tmp_path / "one.crt").read_text().replace("M", "N", 1)
    (tmp_path / "two.crt").write_text((tmp_path / "one.crt").read_text() + cut)
    (tmp_path / "accounts").write_text("somebody:plain\n")
    text = (
        "registries:\n"
        "  here: {kind: embedded, port: 5501, tls_cert: one.crt, tls_key: other.key, htpasswd: accounts}\n"
        "  away: {kind: distribution, host: images.example.com, ca_file: one.key}\n"
        "  twice: {kind: distribution, host: more.example.com, ca_file: two.crt}\n"
        "notify: {email: {host: mail.example.com, sender: a@example.com, to: [b@example.com], ca_file: accounts}}\n"
    )
    found, _ = seen(tmp_path, text)
    assert [each.partition(": ")[2].split(": ")[0] for each in found] == [
        "registries.here.htpasswd",
        "registries.here.tls_cert",
        "registries.away.ca_file",
        "registries.twice.ca_file",
        "notify.email.ca_file",
    ]
    assert f"{tmp_path}/accounts:1: not a line of name and bcrypt hash" in found[0]
    assert f"{tmp_path}/one.crt: certificate or key cannot be used" in found[1]
    assert f"{tmp_path}/one.key: it has no certificate, only PRIVATE KEY" in found[2]
    assert f"{tmp_path}/two.crt: certificate 2 of 2" in found[3]
    load(written(tmp_path, text), {})
    (tmp_path / "accounts").write_text("somebody:$2b$12$abcdefghijklmnopqrstuv\n")
    text = (
        text.replace("other.key", "one.key")
        .replace("two.crt", "one.crt")
        .replace("ca_file: one.key", "ca_file: one.crt")
    )
    assert seen(tmp_path, text.replace("ca_file: accounts", "ca_file: other.crt"))[0] == []


def test_a_dockerfile_that_no_engine_would_be_given(tmp_path: Path) -> None:
    text = (
        "registries: {here: {kind: embedded, port: 5501}}\nsigning: {generate: true}\n"
        "images:\n"
        "  app: {registry: here, repository: team/app, promote: manual, dockerfile: {version: v1, context: app%s}}\n"
    )
    assert seen(tmp_path, text % "")[0] == [f":4: images.app.dockerfile.context: there is no folder {tmp_path}/app"]
    (tmp_path / "app").mkdir()
    [absent], _ = seen(tmp_path, text % "")
    assert absent.startswith(f":4: images.app.dockerfile: {tmp_path}/app/Dockerfile: the Dockerfile cannot be read")
    [other], _ = seen(tmp_path, text % ", file: Containerfile")
    assert other == f":4: images.app.dockerfile.file: there is no file {tmp_path}/Containerfile"
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\nCOPPY a b\n")
    [wrong], _ = seen(tmp_path, text % "")
    assert wrong.startswith(f":4: images.app.dockerfile: {tmp_path}/app/Dockerfile:2: ")
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\nCOPY a b\n")
    assert seen(tmp_path, text % "")[0] == []


def certificate_of(key: Path) -> bytes:
    """A self-signed certificate, PEM."""
    command = ["openssl", "req", "-x509", "-key", key, "-subj", "/CN=admission", "-days", "9"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_a_role_may_sign_on_another_machine(tmp_path: Path) -> None:
    generate_key(tmp_path / "scanner.key")
    text = IMAGES % ("", "") + "signing: {key: away.key, trusted: [scanner.pub], scanner: {key: scanner.key}}\n"
    found, [away] = seen(tmp_path, text)
    assert found == []
    assert away == f":5: signing.key: there is no key {tmp_path}/away.key: nothing is signed with it on this machine"


def test_provenance_that_nobody_makes(tmp_path: Path) -> None:
    text = "registries: {here: {kind: embedded, port: 5501}}\nsigning: {generate: true}\n"
    pushed = text + "images:\n  pushed: {registry: here, repository: pushed, promote: manual}\n"
    found, [note] = seen(tmp_path, pushed)
    assert found == [] and note.startswith(":4: images.pushed: policy `default` requires provenance")
    assert seen(tmp_path, pushed + "policies: {default: {required: [sbom, signature]}}\n") == ([], [])
    generate_key(tmp_path / "ci.key")
    named = pushed.replace("{generate: true}", "{generate: true, builder: {trusted: [ci.pub]}}")
    assert seen(tmp_path, named) == ([], [])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("aws", "write `kind: ecr` with `account` and `region`"),
        ("GCR", "write `kind: gar` with `project` and `location`"),
        ("acr", "Azure's registry is `kind: distribution` with its host"),
        ("harbor", "a registry elsewhere is `kind: distribution` with its host"),
        ("embeded", "unknown kind `embeded`; did you mean `embedded`?"),
    ],
)
def test_a_kind_that_people_write_gets_its_hint(tmp_path: Path, kind: str, said: str) -> None:
    [problem] = problems(tmp_path, f"registries:\n  r: {{kind: {kind}, host: reg.example.com}}\n")
    assert problem.startswith(f":2: registries.r.kind: {said}")


def test_keys_in_services_and_keys_that_ended(tmp_path: Path) -> None:
    old = generate_key(tmp_path / "old.key")
    generate_key(tmp_path / "new.key")
    (tmp_path / "revoked.txt").write_text(f"{old.key_id} lost\n")
    text = IMAGES % ("", "")
    service = "signing: {kms: 'awskms:alias/release', public: new.pub, retired: [{key: old.pub, until: 2099-01-01}]}\n"
    assert seen(tmp_path, text + service) == ([], [])
    gone = text + service.replace("new.pub", "away.pub")
    assert seen(tmp_path, gone)[0] == [f":5: signing.public: there is no file {tmp_path}/away.pub"]
    found, _ = seen(tmp_path, text + "signing: {key: old.key, revoked: revoked.txt}\n")
    assert found == [f":5: signing.key: its key {old.key_id[:19]} is revoked (lost): nothing may be signed with it"]
    found, _ = seen(tmp_path, text + "signing: {key: old.key, retired: [{key: old.pub, until: 2020-01-01}]}\n")
    assert found == [
        f":5: signing.key: its key {old.key_id[:19]} is retired and was believed until 2020-01-01: "
        "nothing may be signed with it"
    ]
    assert seen(tmp_path, text + "signing: {key: new.key, revoked: revoked.txt}\n") == ([], [])
    (tmp_path / "revoked.txt").write_text("old.pub lost\n")
    [broken], _ = seen(tmp_path, text + "signing: {key: new.key, revoked: revoked.txt}\n")
    assert broken.startswith(
        f":5: signing.revoked: {tmp_path}/revoked.txt: line 1 of the list of revoked keys is no key"
    )
    [bad], _ = seen(tmp_path, text + "signing: {key: new.key, retired: [{key: new.key, until: 2099-01-01}]}\n")
    assert bad.startswith(":5: signing.retired[0]:") and "private key" in bad


def test_a_trust_root_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    text = "registries: {here: {kind: embedded, port: 5501}}\nsigning:\n  trust_root: root.json\n"
    text += "  keyless: [{issuer: 'https://a.example', identity: b}]\n"
    assert seen(tmp_path, text)[0] == [f":3: signing.trust_root: there is no file {tmp_path}/root.json"]
    (tmp_path / "root.json").write_text("{}")
    [found], _ = seen(tmp_path, text)
    assert found.startswith(f":3: signing.trust_root: {tmp_path}/root.json: the trust root cannot be read")
