"""Let go: retention as a plan (``plan``) that is read, approved and applied (``apply``)."""
