"""Certificate authorities of our own, for signatures: roots, authorities below, and leaves with any fault wanted."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

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


class OpensslRevocations:
    """Says over HTTP which certificates an authority took back: `openssl ocsp` answers, `openssl ca` makes the list."""

    def __init__(self, openssl: str, folder: Path, issuer: Issued, signer: Issued | None = None):
        """signer: who answers in the issuer's place."""
        folder.mkdir(parents=True)
        self.openssl, self.folder, self.issuer = openssl, folder, issuer
        self.asked: list[str] = []
        self.broken = ""
        """``ocsp``, ``crl`` or both: what does not answer."""
        for name, one in (("ca", issuer), ("signer", signer or issuer)):
            (folder / f"{name}.pem").write_bytes(one.chain[0].public_bytes(serialization.Encoding.PEM))
            (folder / f"{name}.key").write_bytes(one.key_pem)
        (folder / "index.txt").write_text("")
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={folder}/index.txt\ndefault_md=sha256\ndefault_crl_days=1\n"
        )

    def list(self, issued: Issued, *, revoked: bool) -> None:
        """Say this about a certificate from now on."""
        certificate, path = issued.certificate, self.folder / "index.txt"
        serial = f"{certificate.serial_number:X}"
        serial = serial.zfill(len(serial) + len(serial) % 2)
        others = [line for line in path.read_text().splitlines() if f"\t{serial}\t" not in line]
        end, now = (f"{at:%y%m%d%H%M%SZ}" for at in (certificate.not_valid_after_utc, datetime.now(UTC)))
        line = "\t".join(["R", end, now] if revoked else ["V", end, ""]) + f"\t{serial}\tunknown\t/CN=x"
        path.write_text("\n".join([*others, line]) + "\n")

    def ocsp(self, request: bytes) -> bytes:
        (self.folder / "request").write_bytes(request)
        signer = ["-rsigner", "signer.pem", "-rkey", "signer.key", "-rmd", "sha256", "-ndays", "1"]
        self._run("ocsp", "-index", "index.txt", "-CA", "ca.pem", *signer, "-reqin", "request", "-respout", "response")
        return (self.folder / "response").read_bytes()

    def crl(self) -> bytes:
        self._run("ca", "-gencrl", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.pem", "-out", "crl.pem")
        return x509.load_pem_x509_crl((self.folder / "crl.pem").read_bytes()).public_bytes(serialization.Encoding.DER)

    def _run(self, *arguments: str) -> None:
        command = [self.openssl, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=patient(60))
        assert done.returncode == 0, done.stderr

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address: OCSP by POST, the list by GET."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer("ocsp", lambda: outer.ocsp(request))

            def do_GET(self) -> None:
                if self.path == "/crl":
                    self.answer("crl", outer.crl)
                else:  # RFC 6960 appendix A.1: short requests may come in the address
                    self.answer("ocsp", lambda: outer.ocsp(base64.b64decode(unquote(self.path[1:]))))

            def answer(self, kind: str, make: Callable[[], bytes]) -> None:
                outer.asked.append(kind)
                broken = kind in outer.broken
                content = b"" if broken else make()
                self.send_response(503 if broken else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        with serving(Handler) as address:
            yield address


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback; its address."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def revocable(address: str, *kinds: str) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """Extensions that name where to ask whether a certificate was taken back. kinds: ``ocsp``, ``crl``."""
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(address))
    place = x509.DistributionPoint([x509.UniformResourceIdentifier(f"{address}crl")], None, None, None)
    found = {"ocsp": x509.AuthorityInformationAccess([access]), "crl": x509.CRLDistributionPoints([place])}
    return tuple((found[kind], False) for kind in kinds)
