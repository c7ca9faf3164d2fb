"""One valid call for each public function: a maker of its arguments, ``self`` among them for a method.

What a call gives is used where that is when it works (``AFTERWARDS``). ``FREE`` has arguments ("name"), or values of
one ("name:-1"), that are documented to be anything, so that accepting them is no nonsense.
"""

from . import (
    afidaf,
    attention,
    cells,
    collaborative_compression,
    detection,
    explanation,
    ground,
    pruning,
    rarts,
    redesign,
    segmentation_data,
    shrinking,
    sidt,
    tensor_trains,
    top,
)

CALLS = {
    **ground.CALLS,
    **explanation.CALLS,
    **pruning.CALLS,
    **tensor_trains.CALLS,
    **collaborative_compression.CALLS,
    **cells.CALLS,
    **redesign.CALLS,
    **afidaf.CALLS,
    **attention.CALLS,
    **segmentation_data.CALLS,
    **detection.CALLS,
    **sidt.CALLS,
    **rarts.CALLS,
    **shrinking.CALLS,
    **top.CALLS,
}
AFTERWARDS = {
    **ground.AFTERWARDS,
    **explanation.AFTERWARDS,
    **pruning.AFTERWARDS,
    **tensor_trains.AFTERWARDS,
    **collaborative_compression.AFTERWARDS,
    **cells.AFTERWARDS,
    **redesign.AFTERWARDS,
    **afidaf.AFTERWARDS,
    **attention.AFTERWARDS,
    **segmentation_data.AFTERWARDS,
    **detection.AFTERWARDS,
    **sidt.AFTERWARDS,
    **rarts.AFTERWARDS,
    **shrinking.AFTERWARDS,
    **top.AFTERWARDS,
}
FREE = {
    **ground.FREE,
    **explanation.FREE,
    **pruning.FREE,
    **tensor_trains.FREE,
    **collaborative_compression.FREE,
    **cells.FREE,
    **redesign.FREE,
    **afidaf.FREE,
    **attention.FREE,
    **segmentation_data.FREE,
    **detection.FREE,
    **sidt.FREE,
    **rarts.FREE,
    **shrinking.FREE,
    **top.FREE,
}

__all__ = ["AFTERWARDS", "CALLS", "FREE"]
