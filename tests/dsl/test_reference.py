"""What the language says of itself: everything has an entry, and each says what the spec classes say."""

import re

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.dsl.index import KINDS, kind_class, kinds
from evo.dsl.page import language_page
from evo.dsl.reference import FieldEntry, KindEntry, RoleEntry, classes, entry, paths, section_classes, with_nested
from evo.dsl.spec import spec_fields


def test_every_section_kind_and_field_is_explained():
    """By the path that lists it; a field by itself alone, unless two kinds of that name have it."""
    for path in paths():
        found = entry(path)
        assert found, path
        if path.rpartition(".")[0] in classes() and path not in classes():
            assert isinstance(found[0], FieldEntry | KindEntry), path
            assert found[0].meaning, path


def test_a_field_says_type_range_default_and_gene():
    """As its class has them."""
    assert entry("attention.heads") == (
        FieldEntry("heads", "integer, at least 1, at most 1,024", None, "1 to 32, step x2", "Query heads."),
    )
    (found,) = entry("train.optimizer.lion.lr")
    assert isinstance(found, FieldEntry)
    assert (found.default, found.type) == ("5e-4", "number, above 0, at most 10")
    field, role = entry("train.optimizer")
    assert isinstance(field, FieldEntry)
    assert isinstance(role, RoleEntry)
    assert field.default == "{kind: adamw}"
    assert [kind for kind, _ in role.kinds] == kinds("optimizer")


@pytest.mark.parametrize(("path", "type"), [("train.rates", "rates or null"), ("train.optimizer", "an optimizer")])
def test_a_role_has_an_article_if_it_is_one(path: str, type: str):
    """Not `a rates`."""
    field = entry(path)[0]
    assert isinstance(field, FieldEntry)
    assert field.type == type


def test_a_path_goes_through_defaults_and_names_of_several_roles():
    """The default kind's fields are there without its name; a name of two roles gives both."""
    assert entry("train.schedule.warmup") == entry("train.schedule.wsd.warmup")
    assert [found.path for found in entry("linear") if isinstance(found, KindEntry)] == [
        "ffn.linear",
        "scaling.linear",
        "cooling.linear",
    ]
    assert len(entry("organism.stages.repeat")) == 1


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("attention.haeds", "did you mean 'attention.heads'"),
        ("heads", "a field of attention"),
        ("softpick", "speaks of it in attention.weigh: ask"),
        ("titans", "memory_tokens: ask"),
        ("titans", "`evo new NAME --from zoo/titans`"),
        ("SwiGLU", "a gated ffn with silu"),
        ("n_layers", "in evo: `repeat` of a stage"),
        ("x.y", "sections: "),
    ],
)
def test_what_is_not_there_is_a_diagnostic_with_advice(path: str, advice: str):
    """A slip of the pen, a field without its kind, a value, a paper's name, and nothing at all."""
    with pytest.raises(DiagnosticError) as caught:
        entry(path)
    (fault,) = caught.value.diagnostics
    assert fault.code == "EVO005"
    assert advice in (fault.help or "")


def test_a_role_tells_whole_sentences_of_its_kinds():
    """Dots that leave something out end no sentence."""
    (mixer,) = entry("mixer")
    assert isinstance(mixer, RoleEntry)
    assert dict(mixer.kinds)["path_attention"].startswith("softmax(k_s H_{s+1} ... H_t q_t) v")


def test_the_page_has_every_kind_and_field():
    """One heading a kind and a mapping inside one, one row a field."""
    page = language_page()
    headings = set(re.findall(r"^#{3,5} (\S+)$", page, re.MULTILINE))
    within = {f"{role}.{kind}": kind_class(role, kind) for role in KINDS for kind in kinds(role)}
    wanted = {path: cls for kind, found in within.items() for path, cls in with_nested(kind, found).items()}
    assert wanted.keys() <= headings
    rows = len(re.findall(r"^\| `", page, re.MULTILINE))
    assert rows == sum(len(spec_fields(cls)) for cls in [*wanted.values(), *section_classes().values()])
