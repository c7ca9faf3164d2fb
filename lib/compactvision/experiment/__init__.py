"""Experiments: a chapter's profile, device, seed and stamp, and the values that it logs.

.. code-block:: python

    run = experiment.start("foundations", profile=PROFILE, device=DEVICE, seed=SEED)
    print(run.stamp())
    run.log("resnet56.parameters", 853018)
    print(run.check())
"""

from compactvision.experiment.run import Run, resolve_device, stamp, start

__all__ = ["Run", "resolve_device", "stamp", "start"]
