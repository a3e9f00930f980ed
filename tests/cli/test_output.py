from __future__ import annotations

import io
import os
import pty
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from registry_pipelines.chain import StageResult
from registry_pipelines.cli.bars import TerminalBars
from registry_pipelines.cli.output import (
    print_below,
    print_omissions,
    print_stage_lines,
    rows_table,
    show_result,
)
from registry_pipelines.cli.progress import shown_progress
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Silent, condensed, count_text, size_text
from registry_pipelines.transfer.closure.closure import Omission
from tests.cli.test_bad_input import PROGRAM
from tests.patience import patient


def test_sizes() -> None:
    assert [size_text(count) for count in (0, 1023, 1024, 5 * 1024**2, 3 * 1024**3, 2 * 1024**4)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB", "2.0 TiB",
    ]  # fmt: skip


def test_one_is_no_plural() -> None:
    told = [count_text(1, "receipt"), count_text(2, "receipt"), count_text(0, "copy", "copies")]
    assert told == ["1 receipt", "2 receipts", "0 copies"]


def test_alike_reasons_are_said_once_and_others_all() -> None:
    alike = [f"uncovered:lib{number}: no data" for number in range(5)]
    assert condensed([*alike, "CRITICAL: x", "plain", "a: two", "b: two"]) == [
        "5 times, from uncovered:lib0 to uncovered:lib4: no data",
        "CRITICAL: x",
        "plain",
        "a: two",
        "b: two",
    ]
    accepted = [f"accepted: {each}" for each in alike]
    assert condensed([*accepted, alike[0]]) == [
        "accepted: 5 times, from uncovered:lib0 to uncovered:lib4: no data",
        "uncovered:lib0: no data",
    ]
    assert condensed([]) == []
    assert condensed([f"not believed: {each}" for each in alike]) == [
        f"not believed: 5 times, from {alike[0][:14]} to {alike[4]}"
    ]
    registries = ("us-east-1", "eu-west-1", "gcp", "dmz", "airgap")
    assert condensed([f"{each}: no times" for each in registries]) == [f"{', '.join(registries)}: no times"]
    packages = [f"uncovered:pkg:deb/debian/lib{number}@1?arch=amd64&distro=debian-12: none" for number in range(4)]
    assert condensed(packages) == [
        "4 times, from uncovered:pkg:deb/debian/lib0@1 to uncovered:pkg:deb/debian/lib3@1: none"
    ]
    assert condensed(["host/a: down", "host/b: down"] * 3) == ["host/a: down", "host/b: down"]


def test_what_to_do_is_numbered_and_a_verdict_does_not_repeat_the_scan(capsys: pytest.CaptureFixture[str]) -> None:
    scanned = StageResult(stage="scan", subject="app:v1", action="x", reasons=["HIGH: a"], notes=["undeclared: b"])
    verdict = StageResult(stage="judge", subject="app:v1", action="x", reasons=["HIGH: a", "signature: none"])
    print_stage_lines([scanned, verdict, replace(scanned, subject="app:v2")])
    assert capsys.readouterr().out.splitlines() == [
        *("- scan: HIGH: a", "- scan: undeclared: b", "- judge: signature: none"),
        *("- scan: HIGH: a", "- scan: undeclared: b"),
    ]
    rows = [{"about": about, "text": f"{about} 1"} for about in ("reason", "accepted", "note")]
    show_result(replace(verdict, rows=rows, next_steps=["do [this]  # now", "x" * 300]), as_json=False)
    told = capsys.readouterr().out.splitlines()
    assert told[told.index("Why it may not ship:") :] == [
        *("Why it may not ship:", "- reason 1", "Accepted by the policy:", "- accepted 1", "Noted:", "- note 1"),
        *("Do this, in this order:", "  1. do [this]  # now", f"  2. {'x' * 300}"),
    ]


def test_results_survive_markup_and_odd_rows(capsys: pytest.CaptureFixture[str]) -> None:
    result = StageResult(
        stage="scan", subject="app:v1@sha256:" + "0" * 64, action="[red]found[/red]", reasons=["[b]no[/b]"], ok=False,
        rows=[{"a": 1, "bytes": 2048}, {"b": True}],
    )  # fmt: skip
    show_result(result, as_json=False)
    shown = capsys.readouterr().out
    for expected in ("[red]found[/red]", "- [b]no[/b]", "2.0 KiB", "yes", "failed", "app:v1"):
        assert expected in shown
    assert rows_table([{"n": number} for number in range(60)], limit=50).caption == "and 10 more"


def test_columns_are_called_by_words() -> None:
    table = rows_table([{"media_type": "x", "size_bytes": 1536, "bytes": 1}])
    assert [column.header for column in table.columns] == ["media type", "size", "bytes"]


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """``:m:`` is an emoji to rich, and a host of IPv6 its markup."""
    rows = [{"target": "[fd00::1]:5000/x", "stage": "mirror:m:v1", "digest": f"sha256:{'ab' * 32}"}]
    result = StageResult(stage="mirror:m:", subject="m", action="x", reasons=["mirror:m: no"], rows=rows, ok=False)
    show_result(result, as_json=False)
    assert "- mirror:m: no" in (shown := capsys.readouterr().out) and "mirror:m:v1" in shown
    console = Console(file=io.StringIO(), width=44)
    console.print(rows_table(rows, title="[fd00::1]:5000/x, mirror:m:"))
    assert isinstance(console.file, io.StringIO)
    narrow = console.file.getvalue()
    assert "[fd00::1]:5000/x, mirror:m:" in narrow and "sha256:abababababab" in narrow


def test_lines_with_digests_are_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    digest = f"sha256:{'ab' * 32}"
    print_below(f"{'r' * 120} {digest}", [{"a": 1}])
    left = Omission("platform", Digest(digest), f"platform linux/arm64 of {digest} was not chosen and {digest} neither")
    print_omissions([left], title="left out")
    print_omissions([], title="never")
    show_result(
        StageResult(stage="x", subject="x", action="x", notes=[f"{'n' * 120}: {digest}"]),
        as_json=False,
    )
    shown = capsys.readouterr().out
    assert shown.count(digest) >= 2 and "left out: 1 platform was not chosen\n" in shown and "never" not in shown
    assert "0 B" not in shown.partition("left out")[2].partition("stage")[0]


def test_on_a_narrow_terminal_the_last_columns_go_and_no_number_is_cut() -> None:
    rows = [
        {"image": "bases/python:1.2.0", "target": "eu-west-1", "state": "copied", "bytes": 41_000_000, "tags": 12345}
    ]

    def shown(width: int) -> str:
        console = Console(file=io.StringIO(), width=width)
        console.print(rows_table(rows, width=width))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "39.1 MiB" in shown(80) and "12345" in shown(80) and "bases/python:1.2.0" in shown(80)
    assert "39.1 MiB" in shown(58) and "no room for tags" in shown(58) and "bases/python:1.2.0" in shown(58)
    assert "MiB" not in shown(30) and "state" in shown(30)


def test_a_column_without_a_value_gives_its_room_to_others() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(rows_table([{"edge": "us-east-1", "usd_per_month": "", "bytes_per_month": ""}]))
    assert isinstance(console.file, io.StringIO) and "us-east-1" in console.file.getvalue()


def test_what_is_the_same_of_all_packages_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    packages = [
        {
            "platform": "linux/amd64",
            "purl": f"pkg:pypi/{name}@1",
            "inside": "",
            "layer": "",
            "image": "sha256:" + "1" * 12,
        }
        for name in ("one", "two")
    ]
    result = StageResult(
        stage="sbom", subject="app:v1", ok=True, changed=True, action="listed", seconds=1, rows=packages
    )
    show_result(result, as_json=False)
    shown = capsys.readouterr().out
    assert shown.count("linux/amd64") == shown.count("sha256:111111111111") == 1
    assert "pkg:pypi/one@1" in shown and "inside" not in shown and "layer" not in shown and "image" not in shown
    packages[1]["platform"] = "linux/arm64"
    show_result(replace(result, rows=packages), as_json=False)
    assert "linux/amd64" in (shown := capsys.readouterr().out) and "linux/arm64" in shown and "platform" in shown
    show_result(replace(result, rows=packages[:1]), as_json=False)
    assert "platform" in capsys.readouterr().out


def test_plain_progress_is_one_line_for_each_finished_task(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=False) as lines:
        lines.begin("layer numpy")
        lines.begin("layer numpy", total_bytes=3_000_000)
        lines.advance("layer numpy", 1024 * 1024)
        lines.advance("layer numpy", 1024 * 1024)
        assert capsys.readouterr().err == ""
        lines.end("layer numpy", note="uploaded")
        lines.end("never begun")
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = shown.err.splitlines()
    assert first.startswith("layer numpy: 2.0 MiB, ") and first.endswith(", uploaded")
    assert second.startswith("never begun: ")


def test_copies_have_a_bar_for_each_target_and_one_for_all() -> None:
    bars = Bars(console=Console(file=io.StringIO(), force_terminal=True))
    shown = TerminalBars(bars)
    for number in range(200):
        for host in ("eu:1", "us:2"):
            shown.begin(f"app:{number} -> {host}", total_bytes=10, group=host)
    assert [task.description for task in bars.tasks] == ["all copies  0 of 400", "eu:1  0 of 200", "us:2  0 of 200"]
    shown.advance("app:0 -> eu:1", 10)
    shown.advance("app:7 -> us:2", 5)
    shown.end("app:0 -> eu:1", note="copied")
    told = {task.description.partition("  ")[0]: (task.completed, task.total) for task in bars.tasks}
    assert told == {"eu:1": (10, 2000), "us:2": (5, 2000), "all copies": (15, 4000)}
    for number in range(200):
        for host in ("eu:1", "us:2"):
            shown.end(f"app:{number} -> {host}", note="unchanged")
    assert bars.tasks == []


def test_bars_come_and_go() -> None:
    bars = Bars(console=Console(file=io.StringIO(), force_terminal=True))
    shown = TerminalBars(bars)
    shown.begin("x" * 200, total_bytes=None)
    shown.begin("x" * 200, total_bytes=100)
    shown.advance("x" * 200, 40)
    [task] = bars.tasks
    assert (task.completed, task.total, len(task.description) <= 60) == (40, 100, True)
    shown.end("x" * 200, note="mounted")
    shown.advance("unknown", 1)
    shown.end("unknown")
    assert bars.tasks == []
    silent = Silent()
    silent.begin("x")


def test_messages_go_to_stderr_and_the_answer_to_stdout_on_a_terminal_too(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    path = tmp_path / "none.yaml"
    process = subprocess.Popen(
        [*PROGRAM, "config", "check", "--json", "--config", str(path)], stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    assert process.stdout is not None
    assert '"error": "ConfigInvalid"' in process.stdout.read()
    assert process.wait(patient(30)) == 8
    process.stdout.close()
    assert b"No such file" in os.read(ours, 4096)
    os.close(ours)
