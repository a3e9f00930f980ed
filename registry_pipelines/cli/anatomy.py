"""``inspect --anatomy``: what is inside an image, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_pipelines.cli.context import Options
from registry_pipelines.cli.output import bare_digest, console, print_findings, rows_table
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:
    from registry_pipelines.anatomy.report import Anatomy, FilePart, LayerPart, LayerShare, ReleaseMove, Sum
    from registry_pipelines.build.links.report import LinkReport
    from registry_pipelines.chain.places import Located
    from registry_pipelines.scan.advice.document import Advice

ROWS = 20
"""Of each table; the JSON has all packages."""


def anatomy_of(
    options: Options, place: Place, selector: str, *, platform: str, link_gbit: float, all_files: bool
) -> Anatomy:
    """Read the image or what is known of it. Raises as ``anatomy.image_anatomy``."""
    from registry_pipelines.anatomy.anatomy import image_anatomy
    from registry_pipelines.oci.platforms import Platform

    with options.progress() as progress:
        return image_anatomy(
            place,
            selector,
            state=_state(options),
            platform=Platform.parse(platform) if platform else None,
            link_gbit=link_gbit,
            all_files=all_files,
            progress=progress,
        )


def libraries_of(options: Options, place: Place, found: Anatomy) -> LinkReport:
    """Which libraries the same image needs and has not. Raises as ``image_links``."""
    from registry_pipelines.build.links.image import image_links
    from registry_pipelines.oci.platforms import Platform

    with options.progress() as progress:
        platform = Platform.parse(found.platform)
        return image_links(place, found.digest, platform, state=_state(options), progress=progress)


def _state(options: Options) -> Path:
    config = options.config_if_any()
    return config.state if config else options.state.parent


def show_libraries(found: LinkReport) -> None:
    """What does not link, and what is taken for granted."""
    out = console()
    rows = [
        {
            "how sure": each.severity,
            "who": ", ".join(each.owners or each.files[:1]),
            "files": each.count or "",
            "what": each.why,
            "do": each.do,
        }
        for each in found.findings
    ]
    if rows:
        out.print(rows_table(rows, title="libraries"))
    needed = count_text(found.libraries, "needed library", "needed libraries")
    before, driver = len(found.loaded_before), ", ".join(found.from_driver)
    for line in (
        f"{count_text(found.checked, 'file')} for {found.platform}: {needed}",
        f"  {before} of them a Python package must load before" if before else "",
        f"  NVIDIA's driver brings {driver}" if driver else "",
        "  all of them are there" if found.libraries and not rows else "",
    ):
        if line:
            out.print(line, markup=False, soft_wrap=True)


def beside_others(
    options: Options,
    reference: str,
    located: Located,
    found: Anatomy,
    shared: bool,
    inventory: Path | None,
    releases: int | None,
) -> Anatomy:
    """The same with what the registry's other images have of it, and what its last releases moved. Raises InputError,
    RegistryError."""
    from msgspec.structs import replace

    from registry_pipelines.chain.image_changes import changes, sharing

    config = options.config_if_any()
    if shared:
        found = replace(found, sharing=sharing(config, reference, located, found, inventory, options.state.parent))
    if releases:
        found = replace(found, changes=changes(config, reference, located, found, releases))
    return found


def show(found: Anatomy, *, all_files: bool = False) -> None:
    """Tables of classes, layers, packages, files and advice."""
    out = console()
    hidden = f", {size_text(found.gone)} of it hidden by later layers" if found.gone else ""
    for line in (
        found.image,
        f"  {found.platform}, {size_text(found.compressed)} in {count_text(len(found.layers), 'layer')}",
        f"  {size_text(found.unpacked)} of files{hidden}; a container sees {size_text(found.seen)}",
        f"  {count_text(found.read_layers, 'layer')} had to be read",
    ):
        out.print(line, markup=False, soft_wrap=True)
    files = found.files if all_files else found.largest[:ROWS]
    for title, rows in (
        ("classes", [_sum_row("class", each) for each in found.classes]),
        (f"layers, on {found.link_gbit:g} Gbit/s", [_layer_row(each) for each in found.layers]),
        (
            "layers of other images",
            [_shared_row(found, each) for each in found.sharing.layers] if found.sharing else [],
        ),
        ("what releases moved", [_release_row(each) for each in found.changes.releases] if found.changes else []),
        ("how often layers changed", _change_rows(found)),
        ("classes that releases moved", _moved_rows(found)),
        ("largest packages", [_sum_row("package", each) for each in found.owners[:ROWS]]),
        ("files" if all_files else "largest files", [_file_row(each) for each in files]),
        ("equal files", _equal_rows(found)),
    ):
        if rows:
            out.print(rows_table(rows, title=title))
    if found.advice:
        print_findings("what need not be there, or should be otherwise", [_advice_row(each) for each in found.advice])
    for line in _told_of_others(found):
        out.print(line, markup=False, soft_wrap=True)


def _sum_row(name: str, each: Sum) -> dict[str, Any]:
    return {
        name: each.name,
        "files": each.files,
        "unpacked": size_text(each.size),
        "compressed": size_text(each.compressed),
        "hidden": size_text(each.gone) if each.gone else "",
    }


def _layer_row(each: LayerPart) -> dict[str, Any]:
    most = max(each.classes, key=lambda name: each.classes[name], default="")
    return {
        "layer": each.number,
        "digest": bare_digest(each.digest),
        "files": each.files,
        "unpacked": size_text(each.unpacked) if not each.problem else "",
        "compressed": size_text(each.compressed),
        "hidden": size_text(each.gone) if each.gone else "",
        "wire s": f"{each.wire_s:.2f}",
        "inflate s": f"{each.inflate_s:.2f}" if each.inflate_s is not None else "",
        "mostly": most,
        "made by": _made_by(each),
    }


def _told_of_others(found: Anatomy) -> list[str]:
    """Sums, and what was left out."""
    lines = []
    if shared := found.sharing:
        where = count_text(shared.repositories, "repository", "repositories")
        lines += [
            f"shared: {size_text(shared.shared)} of {size_text(found.compressed)}, "
            f"{size_text(shared.elsewhere)} of it with other repositories",
            f"  looked at {count_text(shared.images, 'other image')} in {where} ({shared.source})",
            f"  the same but compressed otherwise: {size_text(shared.repacked)}; equal files in layers of its own: "
            f"{size_text(shared.file_bytes)} unpacked, by {count_text(shared.layers_read, 'layer')} that were read",
            *(f"  not looked at: {each}" for each in shared.not_looked[:ROWS]),
        ]
        if len(shared.not_looked) > ROWS:
            lines.append(f"  not looked at: {len(shared.not_looked) - ROWS} more, which --json lists")
    if moved := found.changes:
        lines.append(f"a release moved {size_text(moved.moved)} on average")
        if moved.elsewhere:
            lines.append(f"  {size_text(moved.elsewhere)} of it in layers that the image has no more")
        lines += [f"  not looked at: {each}" for each in moved.notes]
    return lines


def _shared_row(found: Anatomy, each: LayerShare) -> dict[str, Any]:
    return {
        "layer": each.number,
        "compressed": size_text(found.layers[each.number - 1].compressed),
        "images": each.images or "",
        "other repositories": each.elsewhere or "",
        "compressed otherwise": each.repacked or "",
        "equal files": size_text(each.file_bytes) if each.file_bytes else "",
        "example": each.examples[0] if each.examples else "",
    }


def _release_row(each: ReleaseMove) -> dict[str, Any]:
    return {
        "release": each.tag,
        "compressed": size_text(each.compressed),
        "moved": "" if each.moved is None else size_text(each.moved),
        "layers": "" if each.layers is None else each.layers,
    }


def _change_rows(found: Anatomy) -> list[dict[str, Any]]:
    if found.changes is None:
        return []
    of = len(found.changes.releases) - 1
    return [
        {
            "layer": part.number,
            "changed": f"{each.changed} of {of}",
            "moved on average": size_text(each.moved) if each.moved else "",
            "mostly": max(part.classes, key=lambda name: part.classes[name], default=""),
            "made by": _made_by(part),
        }
        for each, part in zip(found.changes.layers, found.layers, strict=True)
    ]


def _moved_rows(found: Anatomy) -> list[dict[str, Any]]:
    moved = found.changes.classes if found.changes else {}
    return [{"class": name, "moved on average": size_text(size)} for name, size in moved.items() if size]


def _made_by(part: LayerPart) -> str:
    return " ".join((part.problem or part.made_by.removeprefix("/bin/sh -c ")).split())[:60]


def _file_row(each: FilePart) -> dict[str, Any]:
    return {
        "path": each.path,
        "layer": each.layer,
        "class": each.class_,
        "package": each.owner,
        "unpacked": size_text(each.size),
        "compressed": size_text(each.compressed),
        "hidden": f"{each.gone} by layer {each.gone_by}" if each.gone else "",
    }


def _equal_rows(found: Anatomy) -> list[dict[str, Any]]:
    return [
        {
            "path": ", ".join(each.paths[:2]),
            "copies": each.copies,
            "layers": ", ".join(map(str, each.layers)),
            "wasted": size_text(each.wasted),
            "compressed": size_text(each.wasted_compressed),
        }
        for each in found.equal[: ROWS // 2]
    ]


def _advice_row(each: Advice) -> dict[str, Any]:
    return {
        "what": each.kind,
        "how bad": each.severity,
        "files": each.files or "",
        "unpacked": size_text(each.size) if each.size else "",
        "compressed": size_text(each.compressed),
        "layers": ", ".join(map(str, each.layers)),
        "why": each.why,
        "do": each.do,
        "example": each.examples[0] if each.examples else "",
    }
