"""What is to be done at each target, and doing it. Used by the ways in of ``transfer`` only.

In the order of a copy: ``look`` (what a target has), ``refusals`` (what it is known to refuse), ``planner`` and
``plan`` (what is to be done, as a value), ``execute`` (what waits for what), ``acts`` (what each step does),
``vouching`` (what a registry looks for itself), ``receipts`` (what was found there when it was read back),
``results`` (how it ended). ``answers``: what is asked once in a run. ``shared``: receipts and refusals of many workers.
"""
