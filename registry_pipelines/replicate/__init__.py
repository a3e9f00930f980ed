"""Be everywhere: closures of releases at every target, and what differs there."""
