"""Which ready-made networks surgery cuts, and what stays whole in them: the table of the page "Awkward networks".

``python -m compactvision.awkward`` makes the table anew (``make awkward``); the page reads it from the package.
"""

from compactvision.awkward.catalogue import NETWORKS, Network
from compactvision.awkward.table import FILE, markdown, read
from compactvision.awkward.trial import attempt

__all__ = ["FILE", "NETWORKS", "Network", "attempt", "markdown", "read"]
