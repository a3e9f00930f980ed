"""Let a release ship: a policy over evidence read from the registry, signed verdicts, channel tags moved by digest.

Start at ``gate``: every rule, no input or output, and two questions, may_promote and may_leave. ``documents`` has what
goes in and out: the policy (the configuration holds this class itself), the verdict, the promotion record.

- read from the registry: ``evidence`` (all about one digest), ``standing`` (its verdicts and promotions), ``verdicts``
- ``approvals``: what people say about a release, as QA for example
- ask the gate: ``judge`` makes a verdict and lets copies leave, ``channels`` moves a channel tag and leaves the record
- ``findings``: the gate's rules about a vulnerability report; ``advice``: about what is inside the images;
  ``links``: about libraries that nothing brings

``chain`` calls it, and the command line for an image outside the configuration; ``config`` holds ``documents``. Other
stages learn what was decided from the registry alone.
"""
