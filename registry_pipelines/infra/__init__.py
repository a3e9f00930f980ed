"""Settings of clouds' registries as they are declared: planned, applied, and looked after.

``model`` is what is written below ``infra`` of the configuration; ``ecr`` turns AWS's half of it into settings, reads
what is there, and changes it. ``settings`` has the one form that both clouds share (a thing, what is wanted of it, what
was found), ``plan`` compares the two field by field: the plan is what is printed, stored, approved and applied.
``cloud`` is the protocol between them, ``apply`` does what a plan says. Only ``chain`` imports this room.
"""
