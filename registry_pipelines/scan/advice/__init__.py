"""What is said of the bytes of an image: ``kinds`` of findings, and the ``document`` that a scanner signs.

Findings are made in ``anatomy``; ``promote`` reads the document.
"""
