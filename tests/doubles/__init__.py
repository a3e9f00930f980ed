"""Stand-ins that play what real registries do wrong: a fault-playing proxy and a declarative HTTP server."""
