"""Certificate authorities of our own, for signatures: roots, authorities below, and leaves with any fault wanted."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.patience import patient

CODE, STAMPS = ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.TIME_STAMPING
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_USAGES += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def key_usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and the chain from it to the root."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> bytes:
        """The chain, leaf first."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.chain)

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return bytes(self.key.private_bytes(serialization.Encoding.PEM, *form))

    def issue(
        self,
        name: str,
        *,
        ca: bool = False,
        path_length: int | None = None,
        usage: x509.KeyUsage | None = None,
        uses: tuple[x509.ObjectIdentifier, ...] = (),
        critical: bool = True,
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(days=1),
        hashed: Any = None,
        key: Any = None,
        more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        own: bool = False,
    ) -> Issued:
        """A certificate below this one; right for its kind unless told otherwise. begins, ends: from now. own: it is
        signed by its own key. more: further extensions, each with whether it is critical."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC).replace(microsecond=0)
        subject = subject_of(name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own else self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not own:
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(above, critical=False)
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=critical)
        right = key_usage("key_cert_sign", "crl_sign") if ca else key_usage("digital_signature")
        builder = builder.add_extension(usage or right, critical=critical)
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=critical and STAMPS in uses)
        for extension, must in more:
            builder = builder.add_extension(extension, critical=must)
        made = builder.sign(key if own else self.key, hashed or hashes.SHA256())
        return Issued(made, key, (made,) if own else (made, *self.chain))


def subject_of(name: str) -> x509.Name:
    kinds = (NameOID.COUNTRY_NAME, NameOID.STATE_OR_PROVINCE_NAME, NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(*one) for one in zip(kinds, ("GB", "X", "platform", name), strict=True)])


_NOBODY = Issued(None, None, ())  # type: ignore[arg-type]


def make_root(name: str = "root", **more: Any) -> Issued:
    """A self-signed authority."""
    return _NOBODY.issue(name, ca=True, own=True, ends=timedelta(days=2), **more)


def make_self_signed(name: str = "alone", **more: Any) -> Issued:
    """A self-signed leaf."""
    return _NOBODY.issue(name, own=True, **more)


class OpensslTimestamps:
    """A timestamp authority: `openssl ts` answers each request. Not ours, so that each side is checked by another."""

    def __init__(self, openssl: str, folder: Path, signer: Issued, *, accuracy: str = "secs:1", ess: str = "sha256"):
        folder.mkdir(parents=True)
        self.openssl, self.folder = openssl, folder
        (folder / "tsa.pem").write_bytes(signer.pem)
        (folder / "tsa.key").write_bytes(signer.key_pem)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(
            f"[t]\nserial={folder}/serial\ncrypto_device=builtin\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\n"
            f"digests=sha256,sha384,sha512\naccuracy={accuracy}\ness_cert_id_chain=no\ness_cert_id_alg={ess}\n"
        )

    def answer(self, request: bytes) -> bytes:
        """A TimeStampResp for a TimeStampReq."""
        (self.folder / "request").write_bytes(request)
        options = ["-config", "tsa.cnf", "-section", "t", "-signer", "tsa.pem", "-inkey", "tsa.key"]
        self.run("ts", "-reply", "-queryfile", "request", *options, "-chain", "tsa.pem", "-out", "response")
        return (self.folder / "response").read_bytes()

    def run(self, *arguments: str) -> str:
        command = [self.openssl, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=patient(60))
        assert done.returncode == 0, done.stderr
        return done.stdout
