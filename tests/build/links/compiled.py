"""Shared libraries and Python extensions, compiled on the spot by gcc."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

EXTENSION = """
struct definition {{
    long references; void *type, *init; long index; void *copy;
    const char *name, *text; long size; void *rest[5];
}};
extern void *PyModule_Create2(struct definition *, int);
{declared}
static struct definition made = {{1, 0, 0, 0, 0, "{name}", 0, -1, {{0}}}};
void *PyInit_{name}(void) {{ {called} return PyModule_Create2(&made, 1013); }}
"""
"""A module without Python's headers (``PyModuleDef`` of 3.2 and newer, PEP 384)."""


class Compiler:
    """Compiles into one folder, where libraries that were made before are linked to by their file name."""

    def __init__(self, gcc: str, folder: Path) -> None:
        self._gcc, self._folder = gcc, folder
        folder.mkdir(parents=True, exist_ok=True)

    def library(
        self, soname: str, *, function: str, needs: Sequence[str] = (), version: str = "", flags: Sequence[str] = ()
    ) -> bytes:
        """One with a function, which has a version where one is told. needs: sonames made before."""
        options = [f"-Wl,-soname,{soname}", *flags]
        if version:
            script = self._folder / "versions"
            script.write_text(f"{version} {{ global: {function}; }};\n")
            options.append(f"-Wl,--version-script={script}")
        return self._shared(soname, f"int {function}(void) {{ return 1; }}\n", needs, options)

    def extension(
        self, name: str, *, needs: Sequence[str] = (), calls: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> bytes:
        """A module that Python imports. calls: functions of what it needs."""
        source = EXTENSION.format(
            name=name,
            declared="".join(f"extern int {call}(void);\n" for call in calls),
            called="".join(f"{call}(); " for call in calls),
        )
        return self._shared(f"{name}.abi3.so", source, needs, flags)

    def program(self, name: str, *, flags: Sequence[str] = ()) -> bytes:
        """One that ends with success."""
        return self._run(name, "int main(void) { return 0; }\n", flags)

    def _shared(self, name: str, source: str, needs: Sequence[str], flags: Sequence[str]) -> bytes:
        return self._run(name, source, ["-shared", "-fPIC", "-Wl,--no-as-needed", *flags, *needs])

    def _run(self, name: str, source: str, flags: Sequence[str]) -> bytes:
        command = [self._gcc, "-x", "c", "-", "-x", "none", "-o", name, *flags]
        subprocess.run(command, cwd=self._folder, input=source, text=True, check=True)
        return (self._folder / name).read_bytes()
