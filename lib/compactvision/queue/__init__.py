"""What is prepared for the next GPU: a list of trainings, most valuable first, and what works through it.

.. code-block:: bash

    make gpu-queue OUT=folder MINUTES=9   # work through the list, stop cleanly before the minutes are over
    make gpu-status                       # what is done, what is left, what it would take
    make gpu-queue DRY=1                  # the whole list on the CPU, with tiny numbers

The list is :data:`compactvision.queue.entries.ENTRIES`; how its networks are trained stands in ``arms``. Each job, one
seed of one entry, is a process of its own with a folder for its checkpoint, log and record.
"""
