"""Secrets in layers: found by form and by file, never repeated, at a bounded cost, whatever stands in a file."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.anatomy.reading import read_layers
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.progress import Silent
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.redacting import redacted
from registry_pipelines.scan.secrets import (
    MAX_FOUND,
    MAX_NAMED_BYTES,
    MAX_OF_FILE,
    MAX_SMALL_BYTES,
    SecretFinder,
    is_value,
    secrets_in,
    secrets_in_text,
    sounds_secret,
    wanted,
)
from registry_pipelines.stream.lazy.image import image_for
from tests.scan.images import Files, make_tar, push_image

# Made here: each fits its issuer's form, and opens nothing. They are put together so that no page takes them for real.
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678"
GITHUB = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
AWS = "AKIA" + "Q7WERTYUIOPASDFG"
BODY = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC7abcdefgh"
KEY = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("app/settings.py", f'x = 1\nTOKEN = "{HF}"\n', [("huggingface-token", 2)]),
        ("app/ci.sh", f"git clone https://{GITHUB}@host/x", [("github-token", 1)]),
        (
            "root/.aws/credentials",
            f"[default]\naws_access_key_id={AWS}\naws_secret_access_key = {'aB3d' * 10}\n",
            [("aws-access-key", 2), ("aws-secret-key", 3)],
        ),
        ("root/.netrc", "machine host login me password zzTop991", [("netrc", 1)]),
        ("root/.pypirc", "[pypi]\nusername = me\npassword = hunter2hunter", [("pypirc", 3)]),
        ("etc/pip.conf", "[global]\nindex-url = https://me:pa55word@host/simple", [("url-password", 2)]),
        ("root/.config/pip/pip.conf", "index-url = https://host/simple", []),
        ("root/.kube/config", "users:\n- name: a\n  user:\n    token: eyJhbGciOi.Jy\n", [("kubeconfig", 4)]),
        ("root/.docker/config.json", '{"auths": {"h": {"auth": "bWU6cGFzc3dvcmQ="}}}', [("docker-auth", 1)]),
        ("app/.env", "A=1\nexport DB_PASSWORD='s3cr3tt!x'\nOTHER_SECRET=${X}\nAPI_KEY=changeme\n", [("env-file", 2)]),
        ("app/.env.example", "DB_PASSWORD=s3cr3tt!x", []),
        ("app/k.pem", KEY, [("private-key", 1)]),
        ("app/k.pem", KEY.replace("BEGIN PRIV", "BEGIN ENCRYPTED PRIV"), [("encrypted-private-key", 1)]),
        ("app/sa.json", f'{{"private_key": "{KEY!r}", "client_email": "a@b"}}', [("gcp-service-account", 1)]),
        ("app/check.py", 'if "-----BEGIN PRIVATE KEY-----" in text: pass', []),
        ("app/docs.md", "AKIAIOSFODNN7EXAMPLE and hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", []),
        ("root/.npmrc", "//host/:_authToken=abcdef123456", [("npm-token", 1)]),
    ],
)
def test_what_is_a_secret_and_what_is_not(name: str, text: str, expected: list[tuple[str, int]]) -> None:
    found = secrets_in(name, text.encode())
    assert [(each.kind, each.line) for each in found] == expected
    for each in found:
        assert len(each.hash) == 6 and each.path == name


def test_a_value_is_told_by_six_digits_of_its_hash_alone() -> None:
    [found] = secrets_in("app/x.py", HF.encode())
    assert found.hash == hashlib.sha256(HF.encode()).hexdigest()[:6]
    assert HF not in repr(found)
    assert secrets_in_text(f"ENV HF_TOKEN={HF}") == [("huggingface-token", found.hash)]


def test_what_is_shown_of_a_command_is_without_its_secrets() -> None:
    text = f"|1 A=b TOKEN=abc123xyz /bin/sh -c pip install -i https://me:pa55word@host/simple x && echo {GITHUB} {KEY}"
    shown = redacted(text)
    assert "A=b" in shown and "pip install" in shown and "@host/simple" in shown
    for secret in ("abc123xyz", "pa55word", GITHUB, BODY):
        assert secret not in shown
    assert redacted("RUN DB_PASSWORD=$PASS make") == "RUN DB_PASSWORD=$PASS make"


@pytest.mark.parametrize(
    "text",
    [
        'PASSWORD="ab\\"hunter2cd ef"',
        'PASSWORD=ab"hunter2 ef"',
        f"PASSWORD='{'hunter2' * 100}",
        "PASSWORD='p$hunter2$x'",
        'PASSWORD="${PASSWORD:-hunter2}"',
        "PASSWORD=$'hunter2x'",
        'PASSWORD=\\"a hunter2\\"',
        'PASSWORD=""hunter2',
        "|2 A=b PIP_TOKEN=two hunter2 words /bin/sh -c pip install",
        "|1 PIP_TOKEN=two hunter2 words",
        "ENV PASSWORD a hunter2",
        "export DB_PASSWORD_PROD=hunter2",
        "PGPASSWORD=hunter2 psql",
        "app_token = hunter2",
        '{"PASSWORD": "hunter2"}',
        "password: hunter2",
        "PIP_TOKEN: hunter2",
        "mysql --password hunter2",
        "tool --api-key 'a hunter2'",
        "curl -u me:hunter2 https://host",
        'curl -H "Authorization: Bearer hunter2"',
        "curl -H 'X-Api-Key: hunter2'",
        'echo "machine host login me password hunter2" > ~/.netrc',
        "pip install -i HTTPS://me:hunter2@host/simple",
    ],
)
def test_what_a_command_holds_is_hidden_however_it_is_quoted(text: str) -> None:
    assert "hunter2" not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "RUN --mount=type=secret,id=PIP_TOKEN,target=/root/.netrc pip install -U pip",
        "ENV TOKENIZERS_PARALLELISM=false PATH=/usr/bin:/bin",
        "TOKEN=${TOKEN} make",
        "Take the secret out of use now: pass it when it starts",
        "COPY --from=builder --chown=1:1 /a /b",
        "ENV HF_TOKEN_PATH=/run/token AUTHOR=me GPG_KEY=A035",
    ],
)
def test_a_command_without_a_secret_is_shown_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("name", ["HF_TOKEN", "db.password", "AWS_SECRET_ACCESS_KEY", "api-key", "GOOGLE_CREDENTIALS"])
def test_names_that_sound_secret(name: str) -> None:
    assert sounds_secret(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "GPG_KEY", "PASSWORD_FILE", "KEYBOARD", "SECRET_PATH", "PATH"]
)
def test_names_that_do_not(name: str) -> None:
    assert not sounds_secret(name)


@pytest.mark.parametrize(
    "text", ["changeme", "${TOKEN}", "<token>", "xxxxxxxxxx", "your-token", "/run/secrets/x", "", "abc"]
)
def test_placeholders_are_no_values(text: str) -> None:
    assert not is_value(text)


def test_files_are_chosen_by_name_and_size() -> None:
    assert wanted("app/main.py", 1000) == 1000
    assert wanted("app/main.py", MAX_SMALL_BYTES + 1) == 0
    assert wanted("usr/lib/python3/site-packages/x/y.py", 1000) == wanted("usr/share/doc/x", 1000) == 0
    assert wanted("usr/lib/python3/site-packages/x/test.pem", 1000) == 1000
    assert wanted("root/.netrc", 10 * MAX_NAMED_BYTES) == MAX_NAMED_BYTES
    assert wanted("app/logo.png", 1000) == wanted("app/empty", 0) == 0


SPECIAL = st.sampled_from(
    [
        "-----BEGIN PRIVATE KEY-----",
        "AKIA",
        "hf_",
        "sk-",
        "T3BlbkFJ",
        "xoxb-",
        "AccountKey=",
        "https://a:",
        "@",
        "password ",
        "token: ",
        "_authToken=",
        "KEY=",
        "SECRET=",
        "\n",
        " ",
        "\t",
        ":",
        "=",
        '"',
        "'",
        "\0",
        "\\n",
        "é",
        BODY,
        HF,
        GITHUB,
    ]
)
NAMES = st.sampled_from(
    [
        "app/.env",
        "root/.netrc",
        "root/.pypirc",
        "root/.kube/config",
        "a/.npmrc",
        "a/.pgpass",
        "a/pip.conf",
        "a/x.pem",
        "a/x.py",
        "root/.aws/credentials",
        "root/.docker/config.json",
        "auth.toml",
        "a/.git/config",
        "x.tfvars",
        "",
    ]
)


@settings(max_examples=200, deadline=None)
@given(name=NAMES, pieces=st.lists(st.one_of(SPECIAL, st.text(max_size=30)), max_size=60), raw=st.binary(max_size=60))
def test_whatever_stands_in_a_file_is_read(name: str, pieces: list[str], raw: bytes) -> None:
    text = "".join(pieces).encode("utf-8", "surrogatepass") + raw
    found = secrets_in(name, text)
    assert len(found) <= MAX_OF_FILE and len({each.hash for each in found}) == len(found)
    for each in found:
        assert 1 <= each.line <= text.count(b"\n") + 1
    before = text.decode("utf-8", "replace").replace(HF, "")
    assert HF not in redacted(f"{before} {HF} {before}")


@pytest.mark.parametrize(
    "unit",
    [
        "\n",
        " ",
        "https://",
        "x://a:",
        "password ",
        "A=",
        "TOKEN=abcdefgh1\n",
        KEY,
        "AKIA",
        "sk-T3BlbkFJ",
        "hf_",
        "a:",
        '="',
    ],
)
def test_hostile_files_end_and_give_few_findings(unit: str) -> None:
    """Expressions that try a place again and again would take hours here, and pytest's own limit ends them."""
    text = (unit * (MAX_NAMED_BYTES // len(unit) + 1)).encode()[:MAX_NAMED_BYTES]
    for name in ("app/.env", "root/.netrc", "a/.npmrc", "a/pip.conf"):
        assert len(secrets_in(name, text)) <= MAX_OF_FILE
    redacted(text.decode())
    secrets_in_text(text.decode()[:100_000])


def test_a_layer_has_a_budget_and_says_what_it_left_out() -> None:
    finder = SecretFinder()
    chosen = sum(1 for number in range(1000) if finder.wanted(f"app/{number}.py", MAX_SMALL_BYTES))
    assert 0 < chosen < 1000 and finder.unsearched == 1000 - chosen
    many = SecretFinder()
    for number in range(MAX_FOUND + 10):
        if many.wanted(f"app/{number}.pem", 500):
            many.search(f"app/{number}.pem", KEY.replace("MIIE", f"{number:04}").encode())
    assert len(many.found) == MAX_FOUND and many.unsearched == 10


def contents(tmp_path: Path, *layers: Files | bytes) -> list[LayerContent]:
    place = Place(LayoutRegistry(tmp_path / "registry"), "team/app")
    image = push_image(place, list(layers))
    assert isinstance(place.registry.get_manifest(place.repository, image.digest).content(), Manifest)
    found = image_for(place, image.digest)
    read = read_layers(place, found.layers, state=tmp_path / "state", progress=Silent())
    return [each.content for each in read if each.content is not None]


def test_a_streamed_layer_tells_them(tmp_path: Path) -> None:
    """In plain files, in programs that are text (Windows gives all files the bit), not in links or sparse files."""
    script = f"#!/bin/sh\nexport GITHUB_TOKEN={GITHUB}\n".encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("app/sparse.pem")
        info.size = len(KEY)
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.size": str(len(KEY)),
            "GNU.sparse.map": f"0,{len(KEY)}",
        }
        tar.addfile(info, io.BytesIO(KEY.encode()))
    first = make_tar(
        {"app/run.sh": script, "app/key.pem": KEY, "app/same.pem": "=>app/key.pem"}, executable=["app/run.sh"]
    )
    found = contents(tmp_path, first, {"app/.wh.key.pem": ""}, buffer.getvalue())
    told = [[(each.path, each.kind, each.line) for each in content.secrets] for content in found]
    assert told == [[("app/run.sh", "github-token", 2), ("app/key.pem", "private-key", 1)], [], []]
    again = contents(tmp_path, first, {"app/.wh.key.pem": ""}, buffer.getvalue())
    assert again == found


def test_programs_are_told_as_before(tmp_path: Path) -> None:
    """A small ELF file that is looked at first is still a program."""
    program = Path("/bin/true").resolve().read_bytes()
    tar = make_tar({"app/tool": program, "app/script": "#!/bin/sh\n"}, executable=["app/tool", "app/script"])
    [content] = contents(tmp_path, tar)
    assert {path: type(fact).__name__ for path, fact in content.facts.items()} == {
        "app/tool": "Native",
        "app/script": "Plain",
    }
