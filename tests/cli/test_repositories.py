"""What a repository of documents uses: annotations, hooks, and git's own diff and merge."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from commands import Evo
from evo.dsl.document import load

ROOT = Path(__file__).parents[2]
DOCUMENT = """\
evo: 1
organism:
  width: 64
  context: 128
  stages:
    - name: body
      mix: {kind: convolution}
"""


def test_faults_are_annotations_of_a_workflow(evo: Evo, good: Path, bad: Path):
    """One line a fault with file, line and column; a file without faults says nothing."""
    outcome = evo("validate", bad, "--format", "github")
    lines = [line for line in outcome.out.splitlines() if line.startswith("::")]
    assert outcome.code == 1
    assert len(lines) == 2
    assert lines[0].startswith(f"::error file={bad},line=3,col=3,title=EVO200::unknown key 'depth'")
    assert evo("validate", good, "--format", "github").out == "1 file: valid\n"


def test_the_hooks_and_the_action_name_commands_that_exist(evo: Evo, good: Path):
    """What they call works on a document as they call it."""
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        assert evo(*hook["entry"].split()[1:], good).code == 0
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    assert "evo validate --format github" in steps[-1]["run"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a document, in which git finds this evo, and knows no settings but its own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    program = tmp_path / "bin" / "evo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m evo "$@"\n')
    program.chmod(0o755)
    for name, value in {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PYTHONPATH": str(ROOT / "src"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    git("init", "-q", "-b", "main")
    git("config", "user.email", "a@b.c")
    git("config", "user.name", "a")
    return folder


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """What git does in the folder that the test stands in."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_git_compares_and_merges_documents(evo: Evo, repository: Path):
    """After the installation a diff is a patch, and changes of two branches on neighbouring lines come together."""
    assert evo("git-driver", "install", "*.yaml").code == 0
    assert evo("git-driver", "install", "*.yaml").code == 0
    assert (repository / ".gitattributes").read_text() == "*.yaml diff=evo merge=evo\n"
    file = repository / "a.yaml"
    text = f"# mine\n{DOCUMENT}"
    file.write_text(text)
    (repository / "other.yaml").write_text("no: document\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "side")
    file.write_text(text.replace("128", "64"))
    (repository / "other.yaml").write_text("no: documents\n")
    shown = git("diff").stdout
    assert "~ organism.context: 128 -> 64" in shown
    assert "+no: documents" in shown
    git("commit", "-qam", "two")
    git("checkout", "-q", "main")
    file.write_text(text.replace("width: 64", "width: 32"))
    git("commit", "-qam", "three")
    merged = git("merge", "-q", "-m", "both", "side")
    assert merged.returncode == 0, merged
    assert file.read_text() == text.replace("width: 64", "width: 32").replace("128", "64")
    git("checkout", "-qb", "third", "HEAD~1")
    file.write_text(text.replace("128", "32"))
    git("commit", "-qam", "four")
    conflict = git("merge", "side")
    assert conflict.returncode == 1
    assert "EVO402 both change organism.context: 32 here, 64 there" in conflict.stdout + conflict.stderr
    assert "<<<<<<< ours\n  context: 32\n=======\n  context: 64\n>>>>>>> theirs\n" in file.read_text()
    git("checkout", "-q", "--ours", "a.yaml")
    assert load(file).document.organism.context == 32
