"""Pages that open without a server: one file, no script, nothing that is loaded from elsewhere.

``elements`` makes HTML in which nothing from outside is anything but text; ``document`` is a whole page with its style
and its content security policy. ``plots`` draws numbers over time as SVG, ``custody`` is the page of a digest,
``overview`` the one with what was measured. Pure: who calls has the values, and writes the files.
"""
