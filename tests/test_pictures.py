"""The pictures of the documentation are whole (tests/test_docs.py: they are what is drawn)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.pictures import PICTURES, drawn


@pytest.mark.parametrize("name", PICTURES)
def test_every_box_and_arrow_of_a_description_is_drawn(name: str) -> None:
    found = ElementTree.fromstring(drawn(PICTURES[name]))
    boxes, arrows = PICTURES[name]
    tag = "{http://www.w3.org/2000/svg}"
    assert (len(found.findall(f"{tag}rect")), len(found.findall(f"{tag}line"))) == (len(boxes), len(arrows))
