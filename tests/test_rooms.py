"""docs/architecture.md shows the imports as they are."""

from tests.rooms import PAGE, page


def test_the_picture_of_imports_is_that_of_the_code() -> None:
    text = PAGE.read_text()
    assert text == page(text), "run: make docs"
    assert "\nUp: " not in text
