"""validate, fmt, diff, apply, explain and schema, each as its user sees it."""

import io
from pathlib import Path

import pytest

from evo.dsl.canonical import to_yaml
from evo.dsl.document import load, parse

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GOOD = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"
COSTS = [
    "parameters",
    "flops_per_token",
    "cache_bytes_per_token",
    "state_bytes",
    "decode_bytes",
    "activation_bytes_per_token",
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_and_explained(evo, path: Path):
    """No errors, no warnings, a table, a comment that says what it shows, and the editor's schema."""
    outcome = evo("validate", path)
    assert (outcome.code, outcome.out, outcome.err) == (0, "1 file: valid\n", "")
    assert evo("explain", path).code == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.stem != "first":
        assert lines[0] == "# yaml-language-server: $schema=../dsl_schemas/organism.schema.json"
        assert lines[1].startswith("# ")
        assert evo("fmt", "--check", path).code == 0


def test_validate_shows_every_fault_of_every_file(evo, good: Path, bad: Path, tmp_path: Path):
    """A folder is searched to its bottom; all faults come at once; good files stay silent."""
    deep = tmp_path / "deep" / "worse.yml"
    deep.parent.mkdir()
    deep.write_text("a: [")
    outcome = evo("validate", tmp_path)
    assert outcome.code == 1
    assert outcome.err.count("EVO200") == outcome.err.count("EVO210") == outcome.err.count("EVO100") == 1
    assert outcome.err.endswith("3 files: 3 errors, 0 warnings\n")
    assert str(good) not in outcome.err


def test_validate_tells_schema_and_meaning_together(evo, tmp_path: Path):
    """A wrong key, a wrong type in `train` and heads that do not divide the width: one run shows all three."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD.replace("heads: 2", "heads: 3, size: 1") + "train: {steps: many}\nevo: 1\n")
    outcome = evo("validate", path)
    assert [line.split()[1] for line in outcome.err.splitlines() if line.startswith(str(path))] == [
        "EVO300",
        "EVO200",
        "EVO202",
        "EVO101",
    ]


def test_validate_knows_patches(evo, tmp_path: Path):
    """A patch beside its document is judged as one."""
    path = tmp_path / "p.patch.yaml"
    path.write_text("evo_patch: 1\nedits:\n  - {path: organism.width, old: 64, new: 128}\n")
    assert evo("validate", path).code == 0
    assert evo("fmt", "--check", path).code == 0
    path.write_text("evo_patch: 1\nedits:\n  - {path: organism.width}\n")
    outcome = evo("validate", path)
    assert (outcome.code, outcome.err.count("EVO401"), outcome.err.count("EVO2")) == (1, 1, 0)


def test_validate_warns_and_exits_with_0(evo, tmp_path: Path):
    """A warning is shown and is no error."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD + "      share: true\n")
    outcome = evo("validate", path)
    assert outcome.code == 0
    assert "EVO333 warning:" in outcome.err


def test_validate_json(evo, good: Path, bad: Path):
    """The frozen shape: programs read it."""
    found = evo("validate", good, bad, "--json").json
    assert list(found) == ["command", "format", "files", "errors", "warnings"]
    assert [found["errors"], found["warnings"]] == [2, 0]
    assert [list(file) for file in found["files"]] == [["file", "valid", "content_hash", "diagnostics"]] * 2
    assert [file["valid"] for file in found["files"]] == [True, False]
    assert len(found["files"][0]["content_hash"]) == 32
    assert found["files"][1]["content_hash"] is None
    assert found["files"][1]["diagnostics"][0] == {
        "code": "EVO200",
        "severity": "error",
        "message": "unknown key 'depth' in organism",
        "help": "in evo: `repeat` of a stage: how many layers it has",
        "where": {"file": str(bad), "line": 3, "column": 3, "length": 5},
    }


def test_a_file_with_thousands_of_faults_is_cut_short(evo, tmp_path: Path):
    """Fifty are printed, the others counted."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD + "".join(f"key{i}: 1\n" for i in range(3000)))
    outcome = evo("validate", path)
    assert outcome.err.count("EVO200") == 50
    assert "... and 2,950 more" in outcome.err


def test_fmt_rewrites_once(evo, tmp_path: Path):
    """The first run rewrites and keeps the leading comments, the second has nothing to do."""
    path = tmp_path / "f.yaml"
    path.write_text(
        "# why\n\norganism: {stages: [{mix: {heads: 2, kind: attention}, name: body}], width: 64}\nevo: 1\n"
    )
    assert evo("fmt", "--check", path).code == 1
    assert evo("fmt", path).out == f"rewrote {path}\n"
    assert path.read_text() == "# why\n\n" + GOOD
    assert (evo("fmt", path).out, evo("fmt", "--check", path).code) == ("", 0)


def test_fmt_does_not_lose_comments_unasked(evo, tmp_path: Path):
    """A comment inside stops it; --force drops it; a file that is in form but for comments is left alone."""
    path = tmp_path / "f.yaml"
    text = GOOD.replace("width: 64", "width: 0x40  # narrow")
    path.write_text(text)
    outcome = evo("fmt", path)
    assert outcome.code == 1
    assert f"{path}:3:16: EVO110" in outcome.err
    assert path.read_text() == text
    assert evo("fmt", "--force", path).code == 0
    assert path.read_text() == GOOD
    path.write_text(GOOD.replace("width: 64", "width: 64  # narrow"))
    assert (evo("fmt", path).code, evo("fmt", path, "--check").code) == (0, 0)
    assert "# narrow" in path.read_text()


def test_fmt_json(evo, good: Path, bad: Path):
    """The frozen shape."""
    found = evo("fmt", good, bad, "--check", "--json").json
    assert list(found) == ["command", "format", "changed", "written", "diagnostics"]
    assert (found["changed"], found["written"], len(found["diagnostics"])) == ([], False, 2)


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    """The good document with more heads, wider, and trained longer."""
    path = tmp_path / "wider.yaml"
    path.write_text(GOOD.replace("64", "128").replace("heads: 2", "heads: 2, kv_heads: 1") + "train: {steps: 300}\n")
    return path


def test_diff_shows_patch_and_costs(evo, good: Path, wider: Path):
    """What changed, and what that costs."""
    outcome = evo("diff", good, wider)
    assert outcome.code == 0
    patch, table = outcome.out.split("\n\n")
    assert patch.splitlines() == [
        "~ organism.width: 64 -> 128",
        "+ organism.stages.body.mix.kv_heads: 1",
        "+ train: {steps: 300}",
    ]
    assert "parameters" in table
    assert "ratio" in table


def test_diff_exit_code(evo, good: Path, wider: Path):
    """--exit-code tells programs whether documents differ; spelling is no difference."""
    assert evo("diff", "--exit-code", good, wider).code == 1
    good.with_name("same.yaml").write_text("# c\n" + GOOD.replace("64", "0x40"))
    outcome = evo("diff", "--exit-code", good, good.with_name("same.yaml"))
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "no difference")


def test_diff_json(evo, good: Path, wider: Path):
    """The frozen shape."""
    found = evo("diff", good, wider, "--json").json
    assert list(found) == ["command", "format", "patch", "costs", "content_hash"]
    assert list(found["costs"]) == COSTS
    assert all(list(cost) == ["before", "after", "ratio"] for cost in found["costs"].values())
    assert found["patch"]["edits"][0] == {"path": "organism.width", "old": 64, "new": 128}
    assert list(found["content_hash"]) == ["before", "after"]


def test_diff_shows_the_faults_of_both(evo, bad: Path, tmp_path: Path):
    """Both documents are read before anything is refused, each with its own source."""
    other = tmp_path / "other.yaml"
    other.write_text(GOOD.replace("64", "-1"))
    outcome = evo("diff", bad, other)
    assert outcome.code == 1
    assert f"{bad}:3:3: EVO200" in outcome.err
    assert f"{other}:3:10: EVO203" in outcome.err
    assert "    3 |   width: -1" in outcome.err


def test_a_printed_patch_applies_and_reverses(evo, good: Path, wider: Path, tmp_path: Path):
    """diff --patch, apply, and apply --reverse close the circle."""
    patch = tmp_path / "patch.yaml"
    patch.write_text(evo("diff", "--patch", good, wider).out)
    assert evo("apply", patch, good).out == to_yaml(load(wider).document)
    out = tmp_path / "new" / "out.yaml"
    assert evo("apply", patch, good, "--out", out).out == ""
    assert evo("apply", "--reverse", patch, out).out == GOOD
    assert good.read_text() == GOOD


def test_a_document_and_its_patch_the_other_way_round(evo, good: Path, wider: Path, tmp_path: Path):
    """One sentence says so, with the command as it was meant."""
    patch = tmp_path / "wider.patch.yaml"
    patch.write_text(evo("diff", good, wider, "--patch").out)
    outcome = evo("apply", good, patch)
    assert outcome.code == 1
    assert outcome.err.count("EVO") == 1
    assert f"{patch} is the patch" in outcome.err
    assert f"evo apply {patch} {good}" in outcome.err


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch):
    """Lets a text or bytes stand on standard input."""

    def pipe(content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def test_standard_input_is_read_for_a_dash(evo, good: Path, wider: Path, piped):
    """As editors and hooks want it: validate, explain and diff read it, fmt writes the canonical form out."""
    piped(good.read_text())
    assert evo("validate", "-").code == 0
    piped("evo: 1\n")
    outcome = evo("validate", "-")
    assert (outcome.code, "-:1:1: EVO201" in outcome.err) == (1, True)
    piped(b"\xff" * 10)
    assert "EVO003" in evo("validate", "-").err
    piped("x" * 2_000_000)
    assert "EVO002" in evo("validate", "-").err
    piped(good.read_text())
    assert "width" in evo("explain", "-").out
    piped(wider.read_text())
    assert "organism.width" in evo("diff", good, "-").out


def test_fmt_of_standard_input_goes_to_standard_output(evo, good: Path, piped):
    """The canonical form once, whatever stood there; --check prints nothing of it; faults are told."""
    text = good.read_text()
    piped(text.replace("evo: 1\n", "evo:   1\n"))
    found = evo("fmt", "-")
    assert found.code == 0
    piped(found.out)
    assert evo("fmt", "-").out == found.out
    piped(text.replace("evo: 1\n", "evo:   1\n"))
    checked = evo("fmt", "--check", "-")
    assert (checked.code, checked.out) == (1, "would rewrite -\n")
    piped("evo: 1\n")
    assert (evo("fmt", "-").code, evo("fmt", "-").out) == (1, "")


def test_a_patch_that_does_not_fit_or_breaks_is_refused(evo, good: Path, tmp_path: Path):
    """Nothing is written, and the place in the patch, or in its result, is shown."""
    patch, out = tmp_path / "patch.yaml", tmp_path / "out.yaml"
    patch.write_text("evo_patch: 1\nedits:\n  - {path: organism.width, old: 32, new: 128}\n")
    outcome = evo("apply", patch, good, "--out", out)
    assert outcome.code == 1
    assert f"{patch}:3:5: EVO400" in outcome.err
    patch.write_text("evo_patch: 1\nedits:\n  - {path: organism.width, old: 64, new: 65}\n")
    assert f"{good} after {patch}:6:37: EVO300" in evo("apply", patch, good, "--out", out).err
    assert not out.exists()


def test_apply_json(evo, good: Path, tmp_path: Path):
    """The frozen shape."""
    patch = tmp_path / "patch.yaml"
    patch.write_text("evo_patch: 1\nedits: []\n")
    found = evo("apply", patch, good, "--json").json
    assert list(found) == ["command", "format", "document", "content_hash", "out"]
    assert found["document"]["organism"]["width"] == 64


def test_explain_prints_the_layer_table(evo, good: Path):
    """Golden text: shapes, parameters, FLOPs and bytes of a small document."""
    golden = Path(__file__).parent / "golden" / "explain.txt"
    assert evo("explain", good).out == golden.read_text(encoding="utf-8")


def test_explain_json(evo, good: Path):
    """The frozen shape."""
    found = evo("explain", good, "--json").json
    keys = ["command", "format", "name", "content_hash", "width", "vocab", "context", "stages", "weights", "totals"]
    assert list(found) == keys
    assert list(found["totals"]) == COSTS
    [stage] = found["stages"]
    assert list(stage) == ["name", "from", "layers"]
    assert list(stage["layers"][0]) == ["path", "place", "norm", "mixer", "ffn"]
    block = ["kind", "settings", "parameters", "flops_per_token", "cache_bytes_per_token", "state_bytes", "children"]
    assert list(stage["layers"][0]["mixer"]) == block
    assert found["weights"]["stages.body.0.mixer.q"] == [64, 64]


def backends(evo, path: Path, *arguments: str) -> list[str]:
    """What `explain --kernels` says that the layers train on."""
    rows = evo("explain", path, "--kernels", "--json", *arguments).json["layers"]
    return [row["backend"] for row in rows if row["layer"] != "everywhere"]


def test_explain_kernels_of_a_device_that_is_not_here(evo, tmp_path: Path):
    """Each layer's backend, those that were passed over, and why."""
    pytest.importorskip("triton")
    window = "    - {name: body, mix: {kind: attention, heads: 2, stencil: {kind: window, size: 8}}}\n"
    path = tmp_path / "window.yaml"
    path.write_text(f"evo: 1\norganism:\n  width: 64\n  stages:\n{window}")
    outcome = evo("explain", path, "--kernels", "--device", "cuda")
    assert outcome.code == 0
    head, row, *fused = outcome.out.splitlines()
    assert head.split("  ")[0] == "layer"
    assert row.startswith("stages.body.0  attention ")
    assert row.split()[2] == "triton"
    assert all(line.startswith("everywhere ") and line.split()[-2:] == ["triton", "-"] for line in fused)
    assert "the vendor kernels take plain causal, full and one-query problems only" in row
    assert backends(evo, path) == ["sdpa"]
    assert backends(evo, path, "--device", "cuda:1") == ["triton"]


@pytest.mark.parametrize(("precision", "backend"), [("fp32", "triton"), ("bf16", "short")])
def test_explain_kernels_of_the_precision_that_training_has(evo, good: Path, precision: str, backend: str):
    """The short kernels take halves only: what is told is what the document's own precision would run on."""
    pytest.importorskip("triton")
    good.write_text(f"{good.read_text()}train: {{precision: {precision}}}\n")
    assert backends(evo, good, "--device", "cuda") == [backend]


def test_explain_refuses_a_device_without_kernels(evo, good: Path):
    """Nothing else that it tells depends on a device: one that would be ignored is a wrong command line."""
    for arguments in ([good, "--device", "cuda"], [good, "--device", "cpu", "--json"], ["EVO210", "--device", "cuda"]):
        outcome = evo("explain", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert "Usage: evo explain" in outcome.err
        assert "Invalid value for --device: only --kernels asks for a device" in outcome.err


def test_explain_a_code(evo):
    """In any case of letters; with both examples; as JSON too."""
    outcome = evo("explain", "evo210")
    assert outcome.out.startswith("EVO210: Unknown kind\n\n")
    assert "Wrong:\n\n    evo: 1" in outcome.out
    found = evo("explain", "EVO210", "--json").json
    assert list(found) == ["command", "format", "code", "title", "explanation", "wrong", "fixed", "source"]
    assert parse(found["fixed"])


def test_schema_is_fresh_and_check_notices_when_not(evo, tmp_path: Path):
    """The files in the repository are what the spec classes say; a changed one is noticed."""
    assert evo("schema", "--check", "--out", ROOT / "dsl_schemas").code == 0
    assert evo("schema", "--out", tmp_path).code == 0
    (tmp_path / "patch.schema.json").write_text("{}")
    found = evo("schema", "--check", "--json", "--out", tmp_path)
    assert (found.code, found.json["stale"]) == (1, [str(tmp_path / "patch.schema.json")])
    assert list(found.json) == ["command", "format", "stale", "written"]
    assert "EVO111" in evo("schema", "--check", "--out", tmp_path).err


def test_fmt_writes_through_links_and_keeps_modes(evo, tmp_path: Path):
    """The file that a link leads to is written, a private one stays private, a read-only one is refused."""
    path, link = tmp_path / "f.yaml", tmp_path / "link.yaml"
    path.write_text(GOOD.replace("64", "0x40"))
    path.chmod(0o600)
    link.symlink_to(path)
    assert evo("fmt", link).code == 0
    assert link.is_symlink()
    assert "64" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(GOOD.replace("64", "0x40"))
    path.chmod(0o400)
    outcome = evo("fmt", path)
    assert outcome.code == 1
    assert "EVO004" in outcome.err
    assert "0x40" in path.read_text()


def test_explain_tells_of_the_language(evo):
    """A field, a role, a kind and the list of codes; every line fits; `--json` has the same."""
    field = evo("explain", "attention.heads")
    assert (field.code, field.out.splitlines()[:2]) == (0, ["attention.heads", "Query heads."])
    assert "EVO210  " in evo("explain", "codes").out
    for path in ("attention", "train.optimizer", "experts", "evolve"):
        assert max(map(len, evo("explain", path).out.splitlines())) <= 100
    data = evo("explain", "train.steps", "--json").json
    assert data["entries"][0]["default"] == "200"
    outcome = evo("explain", "attention.haeds")
    assert (outcome.code, "did you mean 'attention.heads'" in outcome.err) == (1, True)
    assert "EVO001" in evo("explain", "attention.yaml").err
    kinds = "attention, dynamic_convolution, gated_attention, spatial, whole_blocks, depths"
    known = f"weigh is a field of {kinds}: ask for attention.weigh"
    assert known in evo("explain", "weigh.softpick").err
    assert "help: `evo explain codes` lists them" in evo("explain", "EVO999").err
