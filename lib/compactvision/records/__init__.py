"""Records: what a chapter's experiment gave, seed by seed, with all that is needed to judge it.

One file a chapter and profile, ``records/<slug>/<profile>.json``, shipped with the package.
"""

from compactvision.records.provenance import (
    Device,
    commit,
    describe_device,
    method_digest,
    text_digest,
    versions,
)
from compactvision.records.record import (
    PROFILES,
    SCHEMA,
    DataSource,
    Record,
    SeedRun,
    Value,
    load,
    read,
    save,
    write,
)

__all__ = [
    "PROFILES",
    "SCHEMA",
    "DataSource",
    "Device",
    "Record",
    "SeedRun",
    "Value",
    "commit",
    "describe_device",
    "load",
    "method_digest",
    "read",
    "save",
    "text_digest",
    "versions",
    "write",
]
