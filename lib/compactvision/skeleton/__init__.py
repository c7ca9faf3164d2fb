"""A new chapter's files, in every wing of the book: ``python -m compactvision new SLUG --title ... --family ...``.

What is written runs and passes the tests from the first minute, with a stand-in for the method. Whatever an author has
to replace says ``WRITE:``, and a test of the book lists these places until none is left.
"""

from compactvision.skeleton.chapter import FAMILIES, Written, new
from compactvision.skeleton.unwritten import unwritten

__all__ = ["FAMILIES", "Written", "new", "unwritten"]
