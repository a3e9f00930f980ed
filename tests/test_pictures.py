"""The pictures of the documentation are what is drawn from their description."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.pictures import PICTURES, ROOT, drawn


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_written_from_their_description(name: str) -> None:
    text = (ROOT / "docs" / "images" / f"{name}.svg").read_text()
    assert text == drawn(PICTURES[name]), "write it again: python -m tests.pictures"
    found = ElementTree.fromstring(text)
    boxes, arrows = PICTURES[name]
    tag = "{http://www.w3.org/2000/svg}"
    assert (len(found.findall(f"{tag}rect")), len(found.findall(f"{tag}line"))) == (len(boxes), len(arrows))
