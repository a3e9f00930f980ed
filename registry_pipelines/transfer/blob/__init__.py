"""One blob from its source to all its targets, also after a kill. ``delivery`` and ``uploads`` use it.

``fanout`` reads it once for all targets: ``window`` in ranges, as many as ``growth`` finds useful, in pieces that
``memory`` lends. ``sinks`` send it: ``spool`` for registries that take a blob only whole, within the ``room`` of its
disk, ``courier`` and ``courier_process`` from a process that outlives this one, ``orphan_process`` tells workers
elsewhere. ``produced`` sends one that is being made, ``mounting`` takes one over from another repository. ``tools`` are
what all blobs of a run share. ``journal`` remembers what was sent; ``owners`` tells whether somebody still works on an
open upload, ``turns`` who sends which blob.
"""
