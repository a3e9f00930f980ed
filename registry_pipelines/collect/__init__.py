"""Let go of what nothing needs: retention as a plan that is read, approved and then applied.

``rules`` is what a person writes (the configuration holds this class itself). ``inventory.survey`` reads a repository:
every manifest that a tag, an index or a referrer leads to. ``decide`` says what stays and why; it asks no registry; a
new reason to keep something goes there. ``plan`` does both for a whole registry and weighs the bytes; the plan is a
plain value with a digest. ``apply`` deletes what an approved plan names, and only where nothing changed since.
``meanwhile`` gives what comes during that back what it needs, ``heal`` what came later; ``whole`` looks at the newest
that stays. ``collectors`` says who then frees the bytes where the files are not ours, and checks what they are about to
delete.

Whatever is unclear (an age, a referrer that cannot be read, a tag that vanished) stays, or has the repository refused.
``chain`` and the command line call ``make`` and ``apply``; ``config`` holds ``rules``.
"""
