"""``weights sign``, and what ``weights verify`` and ``weights pull`` ask of signatures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.references import named
from registry_pipelines.errors import ContentError, InputError, SignatureInvalid
from registry_pipelines.progress import count_text

if TYPE_CHECKING:
    from registry_pipelines.evidence.keys import KeySet
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.transfer.engine import Engine
    from registry_pipelines.weights.oms.attached import WeightSignature
    from registry_pipelines.weights.opening import OpenedWeights


@click.command("sign", short_help="Sign weights.")
@click.argument("target", metavar="REF|FOLDER", shell_complete=IMAGES)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key; the configuration's of a person or builder unless told.",
)
@click.option("--signature", type=click.Path(path_type=Path), metavar="FILE", help="Of a folder: where to write it.")
@click.option("--follow-links", is_flag=True, help="Of a folder: take a symbolic link to a file for the file.")
@common
def sign(options: Options, target: str, key: Path | None, signature: Path | None, follow_links: bool) -> None:
    """Sign all files of weights, in the form of the OpenSSF's model signatures (OMS 1.0), which model-signing verifies.

    What names a folder that is here is a folder: its files are read, and model.sig is written beside them. Else REF:
    weights in a registry, or an image or release that has some attached; nothing is read but the list (of weights that
    are a plain image all, since a layer's digest says nothing of its files), and the signature refers to the weights'
    manifest. A signature by the same key of the same files is not made twice.
    """
    began, here = time.monotonic(), Path(target)
    unsigned = "no key is named, and there is no configuration that names one"
    signer = options.signer(key, "person", "builder", unsigned=unsigned, of_models=True)
    if here.is_dir():
        result = _sign_folder(options, here, signer, signature, follow_links, began)
    else:
        for given, name in ((signature is not None, "--signature"), (follow_links, "--follow-links")):
            if given:
                raise InputError(f"{name} is about folders, and this is none", where=target)
        result = _sign_stored(options, target, signer, began)
    show_result(result, as_json=options.as_json)


def _sign_folder(
    options: Options, folder: Path, signer: Signer, signature: Path | None, follow_links: bool, began: float
) -> StageResult:
    from registry_pipelines.weights.oms.folders import sign_folder

    with options.progress() as progress:
        done = sign_folder(folder, signer, signature=signature, follow_links=follow_links, progress=progress)
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


def _sign_stored(options: Options, reference: str, signer: Signer, began: float) -> StageResult:
    from registry_pipelines.weights.oms.attached import sign_attached
    from registry_pipelines.weights.oms.images import vouch_for_layers
    from registry_pipelines.weights.opening import open_weights

    with named(options, [reference]) as locate, options.progress() as progress:
        found = locate(reference)
        opened = open_weights(found.place, found.selector)
        if opened.image is not None:
            _check_image(opened, replace(options.engine(None), progress=progress))
        carrier, is_new = sign_attached(opened, signer)
        if opened.image is not None:
            is_new |= vouch_for_layers(opened.place, opened.descriptor, opened.image, signer)
    return StageResult(
        stage="weights",
        subject=str(opened),
        action="signed" if is_new else "unchanged",
        digest=carrier.digest,
        changed=is_new,
        seconds=time.monotonic() - began,
        facts={"files": len(opened.weights.files), "size_bytes": opened.weights.size, "key_id": signer.key_id},
    )


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


def believed_keys(options: Options, keys: Sequence[Path]) -> KeySet:
    """Whose signatures of weights count: of these files, else of the configuration. Raises InputError for nobody's."""
    if keys:
        from registry_pipelines.evidence.key_files import MODEL_CURVES
        from registry_pipelines.evidence.keys import load_verifier

        return load_verifier(keys, curves=MODEL_CURVES)
    verifier = options.believed(keys)
    if verifier is None:
        none = "no key of the configuration is here" if options.find_config() else "no key is named"
        raise InputError(f"nobody's signature counts: {none}", do="Give --key FILE.pub")
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
    from registry_pipelines.oci.files import local_errors, write_file
    from registry_pipelines.weights.hashing import SIGNATURE_FILE
    from registry_pipelines.weights.oms.attached import signature_bytes

    raw = signature_bytes(opened.place, signature)
    with local_errors(folder):
        write_file(folder / SIGNATURE_FILE, raw)


def check_folder(options: Options, folder: Path, verifier: KeySet, signature: Path | None) -> StageResult:
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
        notes=left_out(done.unsigned),
    )


def left_out(unsigned: Sequence[str]) -> list[str]:
    """What is told about files that a signature leaves out."""
    count = count_text(len(unsigned), "file is", "files are")
    return [f"{count} there and left out by the signature: {', '.join(unsigned[:5])}"] if unsigned else []


COMMANDS = [sign]
