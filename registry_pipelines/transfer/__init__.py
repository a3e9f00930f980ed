"""How images move: find what belongs together, plan, do, prove. docs/transfer.md tells it for users.

The ways in are here: ``copying`` (one closure), ``batch`` (chosen closures), ``sync`` (whole registries), ``uploads``
(single blobs, also such as are made meanwhile), ``file_sets`` (files as one artifact), ``verify`` (are two places the
same?). Each takes an ``engine``: what
all copies of a program are made with. ``state`` is what they keep between runs and hand to the rooms; ``summary`` tells
what they did. Stages and the command line import these; the words of their answers come from the rooms:

- ``delivery``: the plan of what goes where, and doing it: manifests, tags, receipts
- ``closure``: which repositories, tags and platforms are taken, and what belongs to each image
- ``blob``: one blob from its source to all its targets, also after a kill
- ``limits``: what registries and links permit, and what was used
- ``flow``: what runs when, and how long something that fails is tried again; knows no blob

Each imports only those below it (``delivery``; ``closure`` beside ``blob``; ``limits``; ``flow``), held by import-
linter.
"""
