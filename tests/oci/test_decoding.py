"""Threads that decode into a class for the first time, all at once."""

from __future__ import annotations

import subprocess
import sys

from tests.patience import patient

RACE = """
import sys, threading, types
from registry_pipelines.oci.manifests import decode_json

FIELDS = "".join(f"    field{at}: dict[str, int | str | None] | None = None\\n" for at in range(12))
CODE = "from __future__ import annotations\\nimport msgspec\\n" + "".join(
    f"class Level{at}(msgspec.Struct):\\n{FIELDS}" + (f"    below: Level{at - 1} | None = None\\n" if at else "")
    for at in range(4)
)

def decode(kind, together, failed):
    try:
        together.wait()
        decode_json(b'{"below":{"below":{"field1":{"a":1}}}}', kind)
    except BaseException as error:
        failed.append(error)

failed = []
sys.setswitchinterval(1e-6)
for _ in range(300):
    module = sys.modules["levels"] = types.ModuleType("levels")
    exec(CODE, module.__dict__)
    together = threading.Barrier(8)
    threads = [threading.Thread(target=decode, args=(module.Level3, together, failed)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not failed, failed[0]
"""


def test_threads_may_decode_into_a_class_for_the_first_time_at_once() -> None:
    """msgspec 0.22 by itself ends such a process with SIGSEGV."""
    ran = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=patient(60), check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
