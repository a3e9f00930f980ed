"""What Git says of an application folder, and what it cannot say; every repository is a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from registry_pipelines.build.revision import Revision, read_revision
from tests.needs import missing


def git(folder: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **who}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A folder of a repository whose last commit did not touch it."""
    top = tmp_path / "source"
    folder = top / "service"
    folder.mkdir(parents=True)
    (folder / "app.py").write_text("print(1)\n")
    (folder / ".gitignore").write_text("model.bin\n")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    (top / "other").write_text("1")
    git(top, "add", ".")
    git(top, "commit", "-qm", "two")
    return folder


def last_commit(folder: Path) -> str:
    return git(folder, "log", "-1", "--format=%H", "--", ".")


def read(folder: Path) -> Revision:
    revision = read_revision(folder)
    assert revision is not None
    return revision


def test_outside_of_any_repository_nothing_is_said(tmp_path: Path) -> None:
    assert read_revision(tmp_path) is None


def test_the_folder_s_last_commit_is_taken_and_nothing_is_said_of_it(service: Path) -> None:
    revision = read(service)
    assert revision.commit == last_commit(service) != git(service, "rev-parse", "HEAD")
    assert (revision.dirty, revision.warnings) == (False, ())


@pytest.mark.parametrize(("depth", "known"), [(1, False), (2, False), (3, True)])
def test_a_shallow_clone_whose_history_ends_too_early_gives_no_commit(
    service: Path, tmp_path: Path, depth: int, known: bool
) -> None:
    (service.parent / "other").write_text("2")
    (service / "app.py").write_text("print(2)\n")
    git(service, "commit", "-qam", "three")
    (service.parent / "other").write_text("3")
    git(service, "commit", "-qam", "four")
    git(tmp_path, "clone", "-q", "--depth", str(depth), f"file://{service.parent}", "shallow")
    revision = read(tmp_path / "shallow" / "service")
    assert revision.commit == (last_commit(service) if known else "")
    assert [text for text in revision.warnings if "shallow" in text and "git fetch --unshallow" in text] == list(
        revision.warnings
    )
    assert bool(revision.warnings) is not known
    assert revision.remote == f"file://{service.parent}"


def test_packed_files_that_git_ignores_or_does_not_know_are_named(service: Path) -> None:
    (service / "model.bin").write_text("in no commit")
    (service / "new.py").write_text("in no commit")
    revision = read(service)
    assert revision.dirty
    assert revision.commit == last_commit(service)
    assert revision.warnings == (
        "no commit tags and no revision label: files are packed that are in no commit: model.bin, new.py",
    )


def test_what_is_not_packed_does_not_count(service: Path) -> None:
    (service / ".dockerignore").write_text("model.bin\nnotes\nold.py\n")
    (service / "old.py").write_text("")
    git(service, "add", ".")
    git(service, "commit", "-qm", "three")
    (service / "old.py").unlink()
    (service / "model.bin").write_text("1")
    (service / "notes").mkdir()
    (service / "notes" / "n").write_text("1")
    (service / "__pycache__").mkdir()
    (service / "__pycache__" / "app.pyc").write_text("1")
    assert (read(service).dirty, read(service).warnings) == (False, ())


@pytest.mark.parametrize("staged", [False, True])
def test_changed_and_missing_files_are_named(service: Path, staged: bool) -> None:
    (service / "gone.py").write_text("")
    git(service, "add", ".")
    git(service, "commit", "-qm", "three")
    (service / "gone.py").unlink()
    (service / "app.py").write_text("print(2)\n")
    if staged:
        git(service, "add", "-A", ".")
    said = read(service).warnings
    assert [text.rpartition(": ")[2] for text in said] == ["app.py", "gone.py"]
    assert "were changed since the commit" in said[0]
    assert "the commit has what the folder has not" in said[1]


def test_many_files_are_counted(service: Path) -> None:
    for number in range(10):
        (service / f"f{number}").write_text("1")
    assert read(service).warnings[0].endswith("f0, f1, f2, and 7 more")


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_was_told_not_to_look_at_are_looked_at(service: Path, mark: str) -> None:
    git(service, "update-index", mark, "app.py")
    assert not read(service).dirty
    (service / "app.py").write_text("print('mine')\n")
    before = git(service, "ls-files", "-v")
    assert "changed since the commit: app.py" in read(service).warnings[0]
    assert git(service, "ls-files", "-v") == before


def test_a_sparse_checkout_says_what_is_not_there(service: Path) -> None:
    (service / "data").mkdir()
    (service / "data" / "table.csv").write_text("1")
    git(service, "add", ".")
    git(service, "commit", "-qm", "three")
    git(service.parent, "sparse-checkout", "set", "--no-cone", "/service/*", "!/service/data")
    assert not (service / "data").exists()
    revision = read(service)
    assert revision.dirty
    assert revision.warnings[0].endswith("the commit has what the folder has not: data/table.csv")


def test_a_clone_that_lacks_contents_tells_the_commit_and_fetches_nothing(service: Path, tmp_path: Path) -> None:
    git(service.parent, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{service.parent}", "partial")
    expected = last_commit(service)
    service.parent.rename(tmp_path / "unreachable")
    revision = read(tmp_path / "partial" / "service")
    assert (revision.commit, revision.warnings) == (expected, ())


def test_submodules_are_compared_by_their_own_repository(service: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "lib.py").write_text("1")
    git(library, "init", "-q")
    git(library, "add", ".")
    git(library, "commit", "-qm", "lib")
    git(service, "submodule", "--quiet", "add", str(library), "lib")
    git(service, "commit", "-qm", "with library")
    assert (read(service).dirty, read(service).warnings) == (False, ())
    (service / "lib" / "lib.py").write_text("2")
    assert read(service).warnings[0].endswith("changed since the commit: lib/lib.py")
    git(service / "lib", "commit", "-qam", "moved on")
    assert read(service).warnings[0].endswith("changed since the commit: lib")
    git(tmp_path, "clone", "-q", str(service.parent), "clone")
    assert read(tmp_path / "clone" / "service").warnings[0].endswith("the commit has what the folder has not: lib")


def test_a_repository_inside_that_is_no_submodule_is_in_no_commit(service: Path) -> None:
    inner = service / "inner"
    inner.mkdir()
    (inner / "x.py").write_text("1")
    git(inner, "init", "-q")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "inner")
    assert read(service).warnings[0].endswith("in no commit: inner/x.py")


def test_work_trees_and_links_to_the_folder_are_the_repository(service: Path, tmp_path: Path) -> None:
    git(service, "worktree", "add", "-q", str(tmp_path / "tree"))
    (tmp_path / "link").symlink_to(service)
    for folder in (tmp_path / "tree" / "service", tmp_path / "link"):
        revision = read(folder)
        assert (revision.commit, revision.dirty, revision.warnings) == (last_commit(service), False, ())


def test_a_folder_that_git_refuses_says_why(service: Path) -> None:
    if os.getuid() != 0:
        missing("only root can give a folder to somebody else")
    for path in (service.parent, service.parent / ".git"):
        os.chown(path, 12345, 12345)
    revision = read(service)
    assert revision.commit == ""
    assert "dubious ownership" in revision.warnings[0]
    assert "safe.directory" in revision.warnings[0]


def test_a_repository_without_git_or_in_pieces_is_said(
    service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (service.parent / ".git" / "HEAD").unlink()
    assert "Git does not answer for the folder: not a git repository" in read(service).warnings[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no git program is installed" in read(service).warnings[0]


def test_a_part_of_the_repository_that_cannot_be_read_is_said(service: Path) -> None:
    (service.parent / ".git" / "shallow").write_text("0" * 40 + "\n")
    (service.parent / ".git" / "index").unlink()
    (service.parent / ".git" / "index").mkdir()
    assert "no commit tags and labels" in read(service).warnings[0]


def test_a_link_that_leads_nowhere_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert read_revision(tmp_path / "a") is None


def test_a_folder_without_a_commit_is_said(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1")
    git(tmp_path, "init", "-q")
    assert "the repository has no commit yet" in read(tmp_path).warnings[0]
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x").write_text("1")
    git(tmp_path, "add", "app.py")
    git(tmp_path, "commit", "-qm", "one")
    assert "nothing of the folder is in a commit" in read(tmp_path / "made").warnings[0]


def test_the_environment_of_a_hook_does_not_name_another_repository(
    service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    expected = read(service)
    for name, value in (("GIT_DIR", other / ".git"), ("GIT_WORK_TREE", other), ("GIT_INDEX_FILE", other / "index")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=true'")
    assert read(service) == expected


def test_settings_for_people_do_not_change_the_answer(service: Path) -> None:
    expected = read(service)
    for name, value in (
        ("log.showSignature", "true"),
        ("log.date", "relative"),
        ("status.showUntrackedFiles", "no"),
        ("status.relativePaths", "false"),
        ("core.quotePath", "true"),
        ("color.ui", "always"),
        ("status.branch", "true"),
        ("diff.noprefix", "true"),
    ):
        git(service, "config", name, value)
    assert read(service) == expected
    (service / "ä b.py").write_text("1")
    assert read(service).warnings[0].endswith("in no commit: ä b.py")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://me:p@ss@host.example/a/b?token=x", "https://host.example/a/b"),
        ("https://me:a/b@host.example/c", "https://host.example/c"),
        ("https://[x/y", ""),
        ("git@host.example:a/b@c", "host.example:a/b@c"),
    ],
)
def test_no_part_of_a_password_in_a_remote_is_told(service: Path, address: str, told: str) -> None:
    git(service, "remote", "add", "origin", address)
    assert read(service).remote == told
