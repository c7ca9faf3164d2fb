"""The notebooks of the chapters: found, run in plain Python, executed in place, and checked for freshness."""

from compactvision.notebooks.address import set_repository
from compactvision.notebooks.checks import TEMPLATE, problems, stale
from compactvision.notebooks.plain import run_cells
from compactvision.notebooks.sources import code_cells, code_digest, find, read, setup_cell, tags_of
from compactvision.notebooks.stored import cleaned, execute
from compactvision.notebooks.told import renew as renew_claims

__all__ = [
    "TEMPLATE",
    "cleaned",
    "code_cells",
    "code_digest",
    "execute",
    "find",
    "problems",
    "read",
    "renew_claims",
    "run_cells",
    "set_repository",
    "setup_cell",
    "stale",
    "tags_of",
]
