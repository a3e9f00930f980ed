"""The columns of an inventory. One row is one manifest in one repository of one registry.

The names and types are those of the Parquet file, which says its version in its metadata: a reader of another program
needs nothing of ours. A null always means "not known", never "none"; an empty list means "none".
"""

from __future__ import annotations

import pyarrow as pa

VERSION = 1
"""Of the columns. A new column does not change it; another meaning or a column that goes does."""

METADATA_KEY = b"registry_pipelines.inventory"
"""Of the file's own metadata: JSON with ``version`` and ``sources``."""

ACTIVE, ARCHIVED, ACTIVATING = "ACTIVE", "ARCHIVED", "ACTIVATING"
"""ECR's words for ``status`` (ImageStatus of its API model). Other registries have none."""

_TIME = pa.timestamp("us", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("registry", _WORD, nullable=False),
        pa.field("repository", _WORD, nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("layers", pa.int32()),
        pa.field("media_type", _WORD),
        pa.field("artifact_type", _WORD),
        pa.field("subject", pa.string()),
        pa.field("children", pa.list_(pa.string())),
        pa.field("created", _TIME),
        pa.field("pushed", _TIME),
        pa.field("pulled", _TIME),
        pa.field("status", _WORD),
        pa.field("archived", _TIME),
        pa.field("activated", _TIME),
        pa.field("answered", _TIME, nullable=False),
    ]
)
"""registry: name of the configuration. size_bytes: compressed, with layers and config; of an index what the registry
says (ECR: its largest child). children: of an index, its manifests. created: the image's own word. pushed, pulled: the
registry's word; a pull time counts pulls of scanners, too. archived, activated: ECR's storage class. answered: when the
registry said this, so that the age of an answer is known."""

COLUMNS = tuple(SCHEMA.names)
