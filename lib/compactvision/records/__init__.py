"""Records: what a chapter's experiment gave, seed by seed, with all that is needed to judge it.

One file a chapter and profile, ``records/<slug>/<profile>.json``, shipped with the package, and one for each
network that was trained by itself, ``records/<slug>/trained-<arm>.json``.
"""

from compactvision.records.checks import KINDS, PROFILES
from compactvision.records.provenance import (
    Device,
    commit,
    describe_device,
    method_digest,
    text_digest,
    versions,
)
from compactvision.records.record import Confirmed, DataSource, Record, SeedRun, Training, Value
from compactvision.records.stored import SCHEMA, load, load_arms, path_of, read, save, write

__all__ = [
    "KINDS",
    "PROFILES",
    "SCHEMA",
    "Confirmed",
    "DataSource",
    "Device",
    "Record",
    "SeedRun",
    "Training",
    "Value",
    "commit",
    "describe_device",
    "load",
    "load_arms",
    "method_digest",
    "path_of",
    "read",
    "save",
    "text_digest",
    "versions",
    "write",
]
