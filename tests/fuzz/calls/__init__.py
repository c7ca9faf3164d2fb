"""One valid call for each public function: a maker of its arguments, ``self`` among them for a method.

What a call gives is used where that is when it works (``AFTERWARDS``). ``FREE`` has arguments ("name"), or values of
one ("name:-1"), that are documented to be anything, so that accepting them is no nonsense.
"""

from . import (
    afidaf,
    cells,
    collaborative_compression,
    explanation,
    ground,
    pruning,
    rarts,
    redesign,
    segmentation_data,
    shrinking,
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
    **segmentation_data.CALLS,
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
    **segmentation_data.AFTERWARDS,
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
    **segmentation_data.FREE,
    **rarts.FREE,
    **shrinking.FREE,
    **top.FREE,
}

__all__ = ["AFTERWARDS", "CALLS", "FREE"]
