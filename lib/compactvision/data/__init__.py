"""Images to learn from: sets that are generated or come with a library, the classic downloads, and your own folders.

A batch is a pair ``(inputs, targets)`` on the device. :class:`ImageSet` holds bytes on the device and makes batches
there; wherever the package takes batches, a ``torch.utils.data.DataLoader`` of such pairs works as well.
"""

from compactvision.data.arrays import ImageSet
from compactvision.data.batches import Batches
from compactvision.data.catalogue import Description, describe, load, names
from compactvision.data.errors import DataError
from compactvision.data.folders import from_folder
from compactvision.data.official import folder

__all__ = [
    "Batches",
    "DataError",
    "Description",
    "ImageSet",
    "describe",
    "folder",
    "from_folder",
    "load",
    "names",
]
