"""Key files as openssl, cosign and people write them: read whole, or refused with words that are true."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.pem import read_blocks
from tests.evidence.parts import Cosign, Key
from tests.patience import patient

Openssl = Callable[..., Path]
P256 = "ecparam -name prime256v1 -genkey -out"
P12 = "req -x509 -new -key plain -subj /CN=x -out c; pkcs12 -export -inkey plain -in c -passout pass:pw -out p12"


@pytest.fixture
def openssl(peer: Callable[[str], str], tmp_path: Path) -> Openssl:
    """Runs the real program in the test's folder; the file that the last word names."""

    def run(line: str) -> Path:
        subprocess.run(
            [peer("openssl"), *line.split()], cwd=tmp_path, check=True, capture_output=True, timeout=patient(60)
        )
        return tmp_path / line.split()[-1]

    return run


def refusal(path: Path, password: str | None = None) -> str:
    """What is said of a file, as a private key when there is a password, else as a trusted one."""
    with pytest.raises(InputError) as caught:
        load_verifier([path]) if password is None else load_signer(path, password)
    assert caught.value.where == str(path)
    assert not password or password not in str(caught.value)
    return f"{caught.value.what}; {caught.value.do}"


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "line",
    [
        f"{P256} key",
        f"{P256} key -noout",
        f"{P256} key -param_enc explicit",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -text -out key",
        f"{P256} plain; pkcs8 -topk8 -in plain -passout pass:pw -out key",
        f"{P256} plain; pkcs8 -topk8 -in plain -scrypt -passout pass:pw -out key",
        f"{P256} plain; pkcs8 -topk8 -in plain -v2 aes-128-cbc -passout pass:pw -outform DER -out key",
        f"{P256} plain; ec -in plain -aes256 -passout pass:pw -out key",
        f"{P256} plain; ec -in plain -des3 -passout pass:pw -out key",
        f"{P256} plain; ec -in plain -outform DER -out key",
        f"{P256} plain; {P12}; pkcs12 -in p12 -nodes -passin pass:pw -out key",
        f"{P256} plain; {P12}; pkcs12 -in p12 -passin pass:pw -passout pass:pw -out key",
    ],
)
def test_what_openssl_writes_signs_and_is_believed(openssl: Openssl, tmp_path: Path, line: str) -> None:
    for part in line.split("; "):
        openssl(part)
    openssl("pkey -in key -passin pass:pw -pubout -out pub")
    openssl("pkey -in key -passin pass:pw -pubout -outform DER -out pub.der")
    openssl("pkey -in key -passin pass:pw -pubout -text -out pub.text")
    signer = load_signer(tmp_path / "key", "pw")
    for name in ("pub", "pub.der", "pub.text"):
        assert load_verifier([tmp_path / name]).verify(b"x", signer.sign(b"x")) == signer.key_id
    assert load_signer(tmp_path / "key", "pw\n").key_id == signer.key_id, "a secret from a file often ends so"


@pytest.mark.peer("openssl")
def test_what_openssl_encrypted_says_whether_a_password_is_missing_or_wrong(openssl: Openssl) -> None:
    openssl(f"{P256} plain")
    for line in (
        "pkcs8 -topk8 -in plain -passout pass:pw -out new",
        "ec -in plain -aes256 -passout pass:pw -out old",
        "pkcs8 -topk8 -in plain -passout pass:pw -outform DER -out der",
    ):
        path = openssl(line)
        said = refusal(path, "")
        assert "encrypted, and no password is given" in said and "`signing.password: ${VARIABLE}`" in said
        assert "wrong password or damaged" in refusal(path, "other")
        assert "wrong password or damaged" in refusal(path, "\N{SNOWMAN}" * 500)


@pytest.mark.peer("openssl")
def test_a_cipher_that_cannot_be_read_is_named(openssl: Openssl) -> None:
    openssl(f"{P256} plain")
    for line in (
        "pkcs8 -topk8 -in plain -v2 aria-256-cbc -passout pass:pw -out key",
        "ec -in plain -aria256 -passout pass:pw -out key",
    ):
        said = refusal(openssl(line), "pw")
        assert "is encrypted in a way that cannot be read" in said
        assert "openssl pkcs8 -topk8 -v2 aes-256-cbc" in said


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key", "RSA 1024"),
        ("genrsa -traditional -out key 1024", "RSA"),
        ("genpkey -algorithm ED25519 -out key", "Ed25519"),
        ("genpkey -algorithm X25519 -out key", "X25519"),
        ("ecparam -name secp384r1 -genkey -out key", "ECDSA secp384r1"),
        ("ecparam -name secp521r1 -genkey -out key", "ECDSA secp521r1"),
        ("ecparam -name secp256k1 -genkey -out key", "ECDSA secp256k1"),
    ],
)
def test_other_keys_are_named(openssl: Openssl, tmp_path: Path, line: str, said: str) -> None:
    openssl(line)
    openssl("pkey -in key -pubout -out pub")
    assert f"not an ECDSA P-256 key but {said}" in refusal(tmp_path / "key", "")
    assert f"not an ECDSA P-256 key but {said}" in refusal(tmp_path / "pub")


@pytest.mark.peer("openssl")
def test_what_is_no_key_of_that_half_is_said_with_the_way_out(openssl: Openssl, tmp_path: Path) -> None:
    openssl(f"{P256} key")
    for line in (
        "pkey -in key -pubout -out pub",
        "req -x509 -new -key key -subj /CN=x -text -out cert",
        "x509 -in cert -trustout -out trusted",
        "x509 -in cert -outform DER -out cert.der",
        "req -new -key key -subj /CN=x -out csr",
        "pkcs12 -export -inkey key -in cert -passout pass:pw -out p12",
        "ecparam -name prime256v1 -out parameters",
    ):
        openssl(line)
    for name, said in {
        "key": "a private key (EC PRIVATE KEY) where public ones are believed; Give the .pub",
        "cert": "not a PEM public key but CERTIFICATE; Trust its key: openssl x509",
        "trusted": "not a PEM public key but TRUSTED CERTIFICATE; Trust its key: openssl x509",
        "cert.der": "not a PEM public key but CERTIFICATE; Trust its key: openssl x509",
        "csr": "not a PEM public key but CERTIFICATE REQUEST; Trust its key: openssl req",
        "p12": "not a PEM public key but a PKCS#12 file",
        "parameters": "not a PEM public key",
    }.items():
        assert said in refusal(tmp_path / name), name
    for name, said in {
        "pub": "the file has only PUBLIC KEY in line 1; Give the private key",
        "cert": "the file has only CERTIFICATE in line",
        "p12": "a PKCS#12 file; Take the key out: openssl pkcs12",
        "parameters": "the file has no PEM block",
    }.items():
        assert said in refusal(tmp_path / name, ""), name


def test_what_other_programs_write_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for text, said in {
        "": "the file is empty",
        "ssh-ed25519 AAAAC3Nz me": "an SSH public key; Convert it: ssh-keygen",
        "ecdsa-sha2-nistp256 AAAA me": "an SSH public key",
        "untrusted comment: minisign public key\nRWQ": "a minisign or signify key",
        '{"kty": "EC", "crv": "P-256"}': "a key as JSON (JWK)",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n=aB\n-----END PGP PUBLIC KEY BLOCK-----": "PGP PUBLIC KEY",
        "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n": "five dashes",
        "hello": "not a PEM public key",
    }.items():
        path.write_text(text)
        assert said in refusal(path), text
    for text, said in {
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----": "Convert a copy of it",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----": "cannot be read (PRIVATE KEY in line 1)",
        "": "the file is empty",
        "0123456789": "the file has no PEM block",
        '{"kty": "EC"}': "a key as JSON (JWK)",
    }.items():
        path.write_text(text)
        assert said in refusal(path, ""), text
    assert "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    "dress",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: b"".join(b"    " + line + b"\n" for line in raw.splitlines()),
        lambda raw: b"# the key of the team\n" + raw + b"\n\n# end",
        lambda raw: raw.rstrip(),
    ],
)
def test_a_file_may_have_been_through_any_editor(
    key: Key, other_key: Key, tmp_path: Path, dress: Callable[[bytes], bytes]
) -> None:
    public, private = tmp_path / "pub", tmp_path / "key"
    public.write_bytes(dress(key.public.read_bytes() + other_key.public.read_bytes()))
    private.write_bytes(dress(key.path.read_bytes()))
    assert load_verifier([public]).key_ids == (key.signer.key_id, other_key.signer.key_id)
    assert load_signer(private).key_id == key.signer.key_id


def test_every_key_of_a_file_is_believed_or_the_file_is_refused(key: Key, other_key: Key, tmp_path: Path) -> None:
    path, one, two = tmp_path / "keys", key.public.read_bytes(), other_key.public.read_bytes()
    path.write_bytes(one.rstrip() + two + one)
    believed = load_verifier([path])
    assert believed.key_ids == (key.signer.key_id, other_key.signer.key_id)
    assert believed.verify(b"x", other_key.signer.sign(b"x")) == other_key.signer.key_id
    for second, said in {
        two.replace(b"-----BEGIN", b"----BEGIN"): "line 5 looks like the mark of a block",
        two.replace(b"-----END PUBLIC KEY-----", b""): "the block PUBLIC KEY in line 5 has no end",
        two.replace(b"M", b"?"): "the block PUBLIC KEY in line 5 is damaged",
        two[:60] + two[-26:]: "PUBLIC KEY in line 5",
        two.replace(b"BEGIN PUBLIC", b"BEGIN CERTIFIED"): "ends no block",
        key.path.read_bytes(): "private key",
    }.items():
        path.write_bytes(one + second)
        assert said in refusal(path), said
    path.write_bytes(key.path.read_bytes() + other_key.path.read_bytes())
    assert "the file has 2 private keys: PRIVATE KEY in line 1, PRIVATE KEY in line 6" in refusal(path, "")
    path.write_bytes(key.path.read_bytes() + two.replace(b"PUBLIC KEY", b"PKCS7"))
    assert "the file has PKCS7 in line 6 beside the private key" in refusal(path, "")
    path.write_bytes(key.path.read_bytes() + two)
    assert load_signer(path).key_id == key.signer.key_id


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_block_is_lost_whatever_happens_to_a_file(data: st.DataObject, make_key: Callable[[str], Key]) -> None:
    """Either all keys are there, or the file is refused; changed base64 is another key, or none."""
    pems = [make_key(name).public.read_bytes() for name in ("one", "two", "three")]
    raw = bytearray(b"".join(pems))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            del raw[place]
        else:
            raw[place:place] = data.draw(st.sampled_from([b"-", b" ", b"\n", b"x", b"\r\n", b"\t"]))
    try:
        assert len(read_blocks(bytes(raw))) == 3
    except ValueError as error:
        assert len(str(error)) > 20


@pytest.mark.peer("cosign")
@pytest.mark.peer("openssl")
def test_keys_go_from_openssl_through_cosign_to_us(openssl: Openssl, cosign: Cosign, cosign2: Cosign) -> None:
    """cosign 2.5.0 imports no ECDSA key, and 3.1.1 none behind EC PARAMETERS."""
    for curve in ("prime256v1", "secp384r1"):
        path = openssl(f"ecparam -name {curve} -genkey -noout -out {curve}")
        made = cosign("import-key-pair", "--key", str(path), "--output-key-prefix", curve, "--yes", password="pw")
        assert made.returncode == 0, made.stderr
    imported = load_signer(cosign.home / "prime256v1.key", "pw")
    assert imported.key_id == load_signer(path.with_name("prime256v1")).key_id
    assert "not an ECDSA P-256 key but ECDSA secp384r1" in refusal(cosign.home / "secp384r1.key", "pw")
    assert load_signer(cosign.home / "prime256v1.key", "pw\n").key_id == imported.key_id
    assert "no password is given" in refusal(cosign.home / "prime256v1.key", "")
    assert "wrong password" in refusal(cosign.home / "prime256v1.key", "other")
    assert cosign2("generate-key-pair", "--output-key-prefix", "prime256v1", password="pw").returncode == 0
    for program in (cosign, cosign2):
        private = program.home / "prime256v1.key"
        signer = load_signer(private, "pw")
        public = program.home / "shown.pub"
        public.write_text(program("public-key", "--key", str(private), password="pw").stdout)
        assert load_verifier([public]).key_ids == (signer.key_id,)


@pytest.mark.peer("openssl")
def test_openssl_reads_our_keys(openssl: Openssl, tmp_path: Path) -> None:
    files = generate_key(tmp_path / "ours.key", password="pw")
    assert openssl("pkey -in ours.key -passin pass:pw -pubout -out seen").read_bytes() == files.public.read_bytes()
