"""Findings about a Dockerfile, with the line to change and, where its image is given too, the bytes.

``commands`` takes shell lines apart; ``installs`` (package managers) and ``rules`` (all else) hold a Dockerfile against
what these teams need, over what ``stages`` knows of the last stage; ``matching`` joins lines with layers of an image,
``lint`` does it all, ``sarif`` writes it for code scanning.
"""
