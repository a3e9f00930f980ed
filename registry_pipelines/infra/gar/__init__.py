"""Google's half of declared settings: Artifact Registry, who may read it, and what stands around it.

``model`` is what is written, ``wanted`` makes settings of it and finds what is wrong, ``forms`` has the one form of
what Google writes in several; ``reading`` asks what is there, ``changing`` changes it, ``asking`` makes their calls,
``cloud`` is the door for planning and applying. ``kinds`` has the words.
"""
