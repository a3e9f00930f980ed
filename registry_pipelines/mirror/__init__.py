"""Cross into private networks: foreign images brought through a DMZ registry into the private one, and kept up to date.

``model`` says what is taken of a foreign image (the configuration holds this class itself; a new field of an upstream
begins there). ``upstreams`` looks at the sources and pins tags to digests, which is the plan, then carries each closure
from stop to stop and reads it back. One that fails is a problem in the answer and does not hold the others up.

Our own promoted releases take the same way by ``carry``; the gate is asked by ``chain`` before. Copying itself is
``transfer``. ``chain`` calls this room; ``config`` holds ``model``; no other stage knows it.
"""
