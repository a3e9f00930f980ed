"""``bases``: approved bases, what stands on them, and what is to be built again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from registry_pipelines.chain.result import Scalar
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import console, print_next_steps, print_results, rows_table, worth_showing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text, size_text


@click.command("bases")
@click.argument("names", nargs=-1, metavar="[BASE]...")
@common
def bases(options: Options, names: tuple[str, ...]) -> None:
    """Show which images stand on which approved base, by their layers: of each image its newest release and those that
    its channels name. Then what is to be built again because a newer base is there, and the bytes that one base for all
    would save."""
    with options.chain() as chain:
        result = chain.bases(names)
    if options.as_json:
        print_results([result])
        return
    for title, rows in (
        ("bases", _shown(result.tables["bases"])),
        ("images", _shown(result.rows)),
        ("one base for all", _shown(result.tables["savings"])),
    ):
        if rows:
            console().print(title, markup=False)
            console().print(rows_table(worth_showing(rows, ("channels", "counts_until", "replaced"))))
    saved = size_text(int(result.facts["bytes_saved_by_one"] or 0))
    if blessed := result.facts.get("blessed"):
        console().print(f"all on {blessed}: {saved} less in registries", markup=False, soft_wrap=True)
    for note in result.notes:
        console().print(note, markup=False, soft_wrap=True)
    console().print(
        f"{count_text(int(result.facts['images_older'] or 0), 'image stands', 'images stand')} on an older base, "
        f"{result.facts['images_unknown']} on none that is known",
        markup=False,
        soft_wrap=True,
    )
    print_next_steps(result.next_steps)


def _shown(rows: Iterable[Mapping[str, Scalar]]) -> list[dict[str, Scalar]]:
    """Sizes and digests as people read them."""
    return [{name: _text(name, value) for name, value in row.items()} for row in rows]


def _text(name: str, value: Scalar) -> Scalar:
    if name.endswith("bytes"):
        return size_text(int(value))
    return Digest.parse(str(value)).short if name.endswith("digest") and value else value


COMMANDS = [bases]
