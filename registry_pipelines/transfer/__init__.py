"""How images move: discover a closure, plan, execute, journal, limit, prove."""
