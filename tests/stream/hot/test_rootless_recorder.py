"""``stream record`` by a user who is not root, and where no control group can be made."""

from __future__ import annotations

from registry_pipelines.stream.hot.recording import decode
from tests.answers import answered, document
from tests.stream.lazy.test_rootless import Person, person

__all__ = ["person"]


def test_a_user_records_without_root_and_control_groups(person: Person) -> None:
    script = "cat /proc/net/dev; id -u; sha256sum /data/0; echo x >/tmp-1; cat /proc/self/status"
    where = person.home / "files" / "one.rec"
    for tag, user in (("v1", "0"), ("me", "7")):
        reference = f"{person.address}/team/app:{tag}"
        words = ("record", reference, "--to", str(where), "--until", "exit", "--json", "--", "sh", "-c", script)
        code, output, errors = person.run(*words)
        assert code == 0, errors
        assert f"\n{user}\n" in errors and "NoNewPrivs:\t1" in errors and "eth0" not in errors
        assert answered(output)["limits"] == "looked after"
        found = decode(where.read_bytes())
        sizes = {file.path: file.size for file in found.files}
        assert sizes["data/0"] == 1 << 20 and "etc/passwd" in sizes and "tmp-1" not in sizes
        where.unlink()


def test_limits_are_looked_after_where_the_kernel_holds_none(person: Person) -> None:
    where = person.home / "files" / "one.rec"
    reference = f"{person.address}/team/app:v1"
    grow = "x=12345678; while [ ${#x} -lt 20000000 ]; do x=$x$x; done; sleep 1000"
    many = f"for i in 1 2 3 4 5 6 7 8; do sh -c '{grow}' & done; wait"
    for options, what in (
        (("--memory", "64MiB"), "more than 64MiB of memory"),
        (("--processes", "5"), "more than 5 processes"),
    ):
        words = ("record", reference, "--to", str(where), "--until", "exit", *options, "--json", "--timeout", "60s")
        code, output, errors = person.run(*words, "--", "sh", "-c", many)
        assert code == 1 and (what in document(output)["error"]["what"] or "annot fork" in errors), errors
        assert not where.exists()
