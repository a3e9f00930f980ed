"""How long an image takes to start: the ways a node has, one after another, on a link of a known rate.

``link`` makes the link, a registry's network namespace and one for each node. ``serving`` is the registry, a process
that counts. ``preparing`` brings the image into it and makes its forms, ``ways`` starts it in each way, ``rounds`` lets
ways take turns, ``report`` tells what came out. ``traces`` and ``replay`` touch the pages that a start
elsewhere touched.

``pulls`` times two images as they are pulled whole: ``pullers`` are the clients, ``counters`` what the machine did
meanwhile.

Everything that a way does is done by the command that a user would type, in a process of its own. Only ``cli`` imports
this room, and ``benchmarks``; what ``stream measure`` attaches is timed by ``chain/start_process``.
"""
