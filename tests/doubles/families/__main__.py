"""Write docs/registries.md."""

from tests.doubles.families.document import DOCUMENT, document

DOCUMENT.write_text(document(), encoding="utf-8")
