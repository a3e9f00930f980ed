"""``weights sign``, and what ``weights verify`` and ``weights pull`` ask of signatures."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import NamedPath, Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.references import named
from registry_pipelines.errors import ContentError, InputError, SignatureInvalid
from registry_pipelines.evidence.model import key_name
from registry_pipelines.progress import count_text
from registry_pipelines.weights.paths import SIGNATURE_FILE, is_store

if TYPE_CHECKING:
    from registry_pipelines.evidence.keys import KeySet
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.oci.digest import Digest
    from registry_pipelines.transfer.engine import Engine
    from registry_pipelines.weights.oms.attached import WeightSignature
    from registry_pipelines.weights.oms.bundles import Believed
    from registry_pipelines.weights.opening import OpenedWeights


@click.command("sign", short_help="Sign weights.")
@click.argument("target", type=NamedPath(), metavar="REF|FOLDER", shell_complete=IMAGES)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key; the configuration's of a person or builder unless told.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate of the key and the authorities above it (PEM), which the signature brings along.",
)
@click.option("--signature", type=click.Path(path_type=Path), metavar="FILE", help="Of a folder: where to write it.")
@click.option("--follow-links", is_flag=True, help="Of a folder: take a symbolic link to a file for the file.")
@common
def sign(
    options: Options,
    target: str,
    key: Path | None,
    certificate: Path | None,
    signature: Path | None,
    follow_links: bool,
) -> None:
    """Sign all files of weights, in the form of the OpenSSF's model signatures (OMS 1.0), which model-signing verifies.

    What names a folder that is here is a folder: its files are read, and model.sig is written beside them. So it is in
    an object store (s3://BUCKET/PREFIX, gs://, az://), by the list that lies there. Else REF: weights in a registry, or
    an image or release that has some attached; nothing is read but the list (of weights that are a plain image all,
    since a layer's digest says nothing of its files), and the signature refers to the weights' manifest. A signature by
    the same key of the same files is not made twice.

    With --certificate those believe it who trust the authority: `weights verify --certificates ROOTS`, `model_signing
    verify certificate`. The certificate must be valid now and when it is verified.
    """
    began, here = time.monotonic(), Path(target)
    unsigned = "no key is named, and there is no configuration that names one"
    signer = options.signer(key, "person", "builder", unsigned=unsigned, of_models=True)
    chain: tuple[bytes, ...] = ()
    if certificate is not None:
        from registry_pipelines.evidence.notation.signers import chain_for_models

        chain = chain_for_models(signer, certificate)
    if here.is_dir():
        result = _sign_folder(options, here, signer, chain, signature, follow_links, began)
    else:
        for given, name in ((signature is not None, "--signature"), (follow_links, "--follow-links")):
            if given:
                raise InputError(f"{name} is about folders, and this is none", where=target)
        sign_it = _sign_in_store if is_store(target) else _sign_stored
        result = sign_it(options, target, signer, chain, began)
    show_result(result, as_json=options.as_json)


def _sign_folder(
    options: Options,
    folder: Path,
    signer: Signer,
    chain: tuple[bytes, ...],
    signature: Path | None,
    follow_links: bool,
    began: float,
) -> StageResult:
    from registry_pipelines.weights.oms.folders import sign_folder

    with options.progress() as progress:
        done = sign_folder(
            folder, signer, signature=signature, follow_links=follow_links, certificates=chain, progress=progress
        )
    outside = count_text(len(done.outside), "link leads", "links lead")
    return StageResult(
        stage="weights",
        subject=str(folder),
        action=f"signed, into {done.signature}",
        changed=True,
        seconds=time.monotonic() - began,
        facts={"files": done.files, "size_bytes": done.size, "key_id": done.key_id},
        notes=[f"{outside} out of the folder: {', '.join(done.outside[:5])}"] if done.outside else [],
    )


def _sign_in_store(
    options: Options, address: str, signer: Signer, chain: tuple[bytes, ...], began: float
) -> StageResult:
    from registry_pipelines.chain.weight_sync import store_at
    from registry_pipelines.weights.in_store import open_stored
    from registry_pipelines.weights.oms.attached import WeightSignature, make_signature

    store = store_at(options.config_if_any(), address)
    found = open_stored(store)
    found.need_whole()
    made = make_signature(found.opened, signer, chain, name=address.rstrip("/").rpartition("/")[2])
    if not isinstance(made, WeightSignature):
        store.write(SIGNATURE_FILE, made)
    return _signed(found.opened, signer, began, is_new=not isinstance(made, WeightSignature))


def _signed(
    opened: OpenedWeights, signer: Signer, began: float, *, is_new: bool, carrier: Digest | None = None
) -> StageResult:
    return StageResult(
        stage="weights",
        subject=str(opened),
        action="signed" if is_new else "unchanged",
        digest=carrier or opened.descriptor.digest,
        changed=is_new,
        seconds=time.monotonic() - began,
        facts={"files": len(opened.weights.files), "size_bytes": opened.weights.size, "key_id": signer.key_id},
    )


def _sign_stored(
    options: Options, reference: str, signer: Signer, chain: tuple[bytes, ...], began: float
) -> StageResult:
    from registry_pipelines.weights.oms.attached import sign_attached
    from registry_pipelines.weights.oms.images import vouch_for_layers
    from registry_pipelines.weights.opening import open_weights

    with named(options, [reference]) as locate, options.progress() as progress:
        found = locate(reference)
        opened = open_weights(found.place, found.selector)
        if opened.image is not None:
            _check_image(opened, replace(options.engine(None), progress=progress))
        carrier, is_new = sign_attached(opened, signer, chain)
        if opened.image is not None:
            is_new |= vouch_for_layers(opened.place, opened.descriptor, opened.image, signer, chain)
    return _signed(opened, signer, began, is_new=is_new, carrier=carrier.digest)


def _check_image(opened: OpenedWeights, engine: Engine) -> None:
    """Nobody signs that layers have files without having read them. Raises ContentError."""
    from registry_pipelines.weights.verify import verify_stored

    bad = [file for file in verify_stored(opened, engine=engine).files if file.state != "ok"]
    if bad:
        raise ContentError(
            f"{bad[0].path}: {bad[0].state}, and so {count_text(len(bad), 'file')} of this image",
            where=str(opened),
            do="Push the weights again; nothing was signed",
        )


@dataclass(frozen=True)
class Signers:
    """Whose signatures of weights count, as the options name them; asked is for one where ``signed``. keys, roots,
    timestamps, crls: files. subjects: of the certificates; none: of all that the roots issued."""

    signed: bool = False
    keys: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()
    subjects: tuple[str, ...] = ()
    timestamps: tuple[Path, ...] = ()
    crls: tuple[Path, ...] = ()

    def told(self) -> list[str]:
        """What to know of a certificate that counted by these."""
        anybody = "--subject names nobody: every certificate below --certificates counts, whoever has it"
        return [anybody] if self.roots and not self.subjects else []

    def verifier(self) -> KeySet:
        """Raises InputError for a file that cannot be read, and for a subject that is none."""
        from registry_pipelines.evidence.attestors import WEIGHTS, AttestorCertificates, AttestorFiles
        from registry_pipelines.evidence.key_files import MODEL_CURVES
        from registry_pipelines.evidence.keys import load_verifier
        from registry_pipelines.evidence.notation.identities import ANY, SUBJECT

        attestors = {}
        if self.roots:
            subjects = tuple(f"{SUBJECT}: {each}" for each in self.subjects) or (ANY,)
            named = AttestorCertificates(
                roots=self.roots, identities=subjects, timestamps=self.timestamps, crls=self.crls
            )
            attestors["certificates"] = AttestorFiles([WEIGHTS], certificates=named)
        return load_verifier(self.keys, attestors=attestors, curves=MODEL_CURVES)


def signers_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say whose signatures count, given as ``signers``."""

    @functools.wraps(function)
    def asked(*arguments: object, **more: Any) -> None:
        told = {each.name: more.pop(each.name) for each in fields(Signers)}
        function(*arguments, signers=Signers(**told), **more)

    for option in reversed(_SIGNERS):
        asked = option(asked)
    return asked


_FILE = click.Path(path_type=Path)
_SIGNERS = (
    click.option("--signed", is_flag=True, help="Only what somebody signed who is believed."),
    click.option(
        "--key",
        "keys",
        type=_FILE,
        multiple=True,
        metavar="FILE",
        help="Public key whose signatures count, with --signed; those of the configuration unless told.",
    ),
    click.option(
        "--certificates",
        "roots",
        type=_FILE,
        multiple=True,
        metavar="FILE",
        help="Certificates of authorities (PEM): signatures by certificates that they issued count, with --signed.",
    ),
    click.option(
        "--subject",
        "subjects",
        multiple=True,
        metavar="SUBJECT",
        help="Whose certificates count (CN=models, O=acme; all of it is in the subject); everybody's unless told.",
    ),
    click.option(
        "--timestamps",
        "timestamps",
        type=_FILE,
        multiple=True,
        metavar="FILE",
        help="Roots of timestamp authorities: what they stamped counts though the certificate is over by now.",
    ),
    click.option(
        "--crl",
        "crls",
        type=_FILE,
        multiple=True,
        metavar="FILE",
        help="List of revoked certificates (CRL) of the signer's authority: it decides, and nobody is asked.",
    ),
)


def believed_keys(options: Options, signers: Signers) -> KeySet | None:
    """Whose signatures of weights count: as told, else of the configuration; None where nobody asks. Raises InputError
    for nobody's, and for options that do not go together."""
    told = ("--key", signers.keys), ("--certificates", signers.roots)
    about = ("--subject", signers.subjects), ("--timestamps", signers.timestamps), ("--crl", signers.crls)
    if not signers.signed:
        if given := next((name for name, values in (*told, *about) if values), ""):
            raise InputError(f"{given} says whose signatures count, and none is asked for", do="Add --signed")
        return None
    if not signers.roots and (given := next((name for name, values in about if values), "")):
        raise InputError(f"{given} is about certificates, and no authority is named", do="Add --certificates FILE")
    if signers.keys or signers.roots:
        return signers.verifier()
    verifier = options.believed(())
    if verifier is None:
        none = "no key of the configuration is here" if options.find_config() else "no key is named"
        raise InputError(f"nobody's signature counts: {none}", do="Give --key FILE.pub, or --certificates FILE.pem")
    return verifier


def check_signed(opened: OpenedWeights, verifier: KeySet) -> WeightSignature:
    """The first signature of weights in a registry that counts. Raises SignatureInvalid where there is none."""
    from registry_pipelines.weights.oms.attached import read_signatures

    found = read_signatures(opened.place, opened.descriptor.digest, opened.weights, verifier)
    if not found.believed:
        raise SignatureInvalid(
            f"these weights are not signed: {found.problem}",
            where=str(opened),
            do="Have who may sign them sign them: registry-pipelines weights sign REF",
        )
    return found.believed[0]


def put_beside(opened: OpenedWeights, signature: WeightSignature, folder: Path) -> None:
    """Write a signature of a registry beside its files, whole or not at all. Raises LocalError, the RegistryError
    family."""
    from registry_pipelines.weights import staging
    from registry_pipelines.weights.oms.attached import signature_bytes

    staging.put_beside(folder, SIGNATURE_FILE, signature_bytes(opened.place, signature))


def signed_by(by: WeightSignature | Believed, signers: Signers) -> list[str]:
    """What is told about who signed, and whose signatures would have counted."""
    if not by.certified:
        return [f"signed by {key_name(by.key_id)}"]
    return [f"signed by {key_name(by.key_id)}: {by.certified}", *signers.told()]


def check_folder(
    options: Options, folder: Path, verifier: KeySet, signature: Path | None, signers: Signers
) -> StageResult:
    """Hold a folder against its signature. Raises SignatureInvalid where it does not fit."""
    from registry_pipelines.weights.oms.folders import verify_folder

    began = time.monotonic()
    with options.progress() as progress:
        done = verify_folder(folder, verifier, signature=signature, progress=progress)
    return StageResult(
        stage="weights",
        subject=str(folder),
        action=f"{count_text(done.files, 'file is', 'files are')} as signed",
        seconds=time.monotonic() - began,
        facts={"files": done.files, "size_bytes": done.size, "key_id": done.believed.key_id},
        notes=[*(signed_by(done.believed, signers) if done.believed.certified else ()), *left_out(done.unsigned)],
    )


def left_out(unsigned: Sequence[str]) -> list[str]:
    """What is told about files that a signature leaves out."""
    count = count_text(len(unsigned), "file is", "files are")
    return [f"{count} there and left out by the signature: {', '.join(unsigned[:5])}"] if unsigned else []


COMMANDS = [sign]
