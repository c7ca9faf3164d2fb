"""A seeded fuzzer over the public functions of the package: valid calls with one or two arguments made bad.

``make fuzz`` runs it, ``python -m fuzz`` in this folder's parent as well. ``calls`` has one valid call for each public
function, class and method (``public`` finds them), ``pools`` the bad values, ``judge`` sorts what comes of a call,
``trial`` makes one call and ``session`` many, in processes of their own.
"""

from .trial import again

__all__ = ["again"]
