"""Cross into private networks: foreign images brought through a DMZ registry into the private one, and kept up to date.

``model`` says what is taken of a foreign image (the configuration holds this class itself; a new field of an upstream
begins there). ``upstreams`` looks at the sources and pins tags to digests, which is the plan, then carries each closure
from stop to stop and reads it back. One that fails is a problem in the answer and does not hold the others up.

``lock`` is the file that people review and ``locked`` the plan that takes exactly what it says. ``views`` show a
foreign image as a policy judges it, which ``chain`` asks between the stops; ``record`` says in the registry when all of
an upstream was last brought.

Our own promoted releases take the same way by ``carry``; the gate is asked by ``chain`` before. Copying itself is
``transfer``. ``chain`` calls this room; ``config`` holds ``model``; no other stage knows it.
"""
