"""How images move: discover a closure, plan, execute, journal, limit, prove. docs/transfer.md tells it for users.

The files, in the order of a copy:

- ``copy`` (one closure), ``batch`` (chosen closures), ``sync`` (whole registries): the ways in
- ``listed``, ``digest_tags``, ``selectors``: which tags there are, which are tags by themselves, which are taken
- ``discovery``, ``platforms``, ``closure``: what belongs to each image; ``omissions``: what is left out, in words
- ``look``, ``lists``: what targets have, and whether they name the referrers that they hold
- ``rules``, ``refusals``, ``planner``, ``plan``: what targets are known to refuse, what is to be done
- ``schedule``, ``streams``, ``execute``, ``acts``: what runs when, how many large blobs at once, what waits for
  what, what each act does
- ``fanout``: one blob to all its targets; ``window``, ``growth``, ``memory``: how it is read; ``sinks``, ``spool``,
  ``courier``, ``courier_process``: how it is sent; ``patience``: how long something is tried again;
  ``health``: which registries are in trouble, and which were given up
- ``receipts``, ``results``, ``summary``: what was found at the targets, and how it is told; ``vouching``: what
  registries look for themselves; ``verify`` compares places
- ``state``: what is kept between runs; ``manifests``, ``journal``, ``database``, ``server`` keep it; ``owners``: whose
  an open upload is
- ``limits``, ``limited``, ``buckets``, ``quotas``, ``requests``: what registries and links permit, and what was used;
  ``answers``: what is asked once in a run
"""
