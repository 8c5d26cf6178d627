"""The public names: one list, documented, and complete against the reference."""

import ast
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedplan
from fedplan import errors
from tests.shared import SHARED

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference.md"
REFERENCE = SHARED / "reference" / "syft-js-api-reference.md"

ROW = re.compile(r"^\| `(?P<reference>[^`]+)` \| `(?P<ours>[^`]+)` \|", re.MULTILINE)
NAME = re.compile(r"(?P<owner>\w+)(?:\.(?P<member>\w+))?(?:\((?P<parameter>\w+)\))?")

ROWS = [(m["reference"], m["ours"]) for m in ROW.finditer(TABLE.read_text())]


def names_of_the_reference() -> list[str]:
    """Every class, member, parameter, property and event that the reference describes."""
    text = REFERENCE.read_text()
    owner = member = section = ""
    names = []
    for line in text[text.index("## Syft\n") :].splitlines():
        heading = re.match(r"(#{2,4}) (.+)", line)
        item = re.match(r"\s*-   `(?:options\.|parameters\.)?([\w.]+)`", line)
        if heading and heading[1] == "##":
            owner, member, section = heading[2], "", ""
            names.append(owner)
        elif heading and heading[2] in ("Parameters", "Properties", "Examples"):
            section = heading[2]
        elif heading and heading[1] == "###":
            member, section = f".{heading[2]}", ""
            names.append(owner + member)
        elif item and item[1] not in ("options", "parameters") and section == "Parameters":
            names.append(f"{owner}{member}({item[1]})")
        elif item and section == "Properties":
            names.append(f"{owner}{member}.{item[1]}")
    return names


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference at {REFERENCE}")
def test_the_table_holds_every_name_of_the_reference_and_no_other() -> None:
    assert [reference for reference, _ in ROWS] == names_of_the_reference()


@pytest.mark.parametrize(("reference", "ours"), ROWS)
def test_a_name_of_the_reference_exists_and_is_documented(reference: str, ours: str) -> None:
    parts = NAME.fullmatch(ours)
    assert parts, ours
    owner = getattr(fedplan, parts["owner"])
    described = inspect.getdoc(owner) or ""
    thing = owner
    if parts["member"] is not None:
        thing, described = member_of(owner, parts["member"])
    assert described, f"{ours} has no documentation"
    if parts["parameter"] is not None:
        assert parts["parameter"] in inspect.signature(thing).parameters
        text = described + (inspect.getdoc(owner.__init__) or "") if inspect.isclass(thing) else described
        assert re.search(rf"^\s*{parts['parameter']}:", text, re.MULTILINE), f"{ours} is not described"


def member_of(owner: type, name: str) -> tuple[object, str]:
    """A method, property, constant or attribute, with its documentation."""
    found = inspect.getattr_static(owner, name, None)
    if callable(found) or isinstance(found, property | classmethod):
        return getattr(owner, name) if not isinstance(found, property) else found, inspect.getdoc(found) or ""
    if name.isupper():
        return found, constant_documentation(owner, name)
    attribute = re.search(rf"^\s*{name}: (.+)", inspect.getdoc(owner) or "", re.MULTILINE)
    return found, attribute[1] if attribute else ""


def constant_documentation(owner: type, name: str) -> str:
    """The text behind a constant in its class."""
    body = ast.parse(inspect.getsource(owner)).body[0].body  # type: ignore[attr-defined]  # it is a class
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(following, ast.Expr)
            return str(ast.literal_eval(following.value))
    return ""


def test_every_public_name_can_be_used() -> None:
    assert sorted(set(fedplan.__all__)) == sorted(fedplan.__all__)
    for name in fedplan.__all__:
        assert getattr(fedplan, name) is not None
    assert set(fedplan.__all__) <= set(dir(fedplan))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sift'"):
        fedplan.Sift  # noqa: B018  # the access is what is tested


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("participat", "participate"), ("SYFT", "Syft"), ("Sift", "Syft"), ("clients", "client")],
)
def test_a_misspelt_name_is_told_with_the_nearest_one(misspelt: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{misspelt}'; did you mean '{meant}'"):
        getattr(fedplan, misspelt)


def test_a_name_that_is_like_no_other_has_no_advice() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'zebra'$"):
        fedplan.zebra  # noqa: B018  # the access is what is tested


def test_every_error_is_drawn_in_the_tree_where_it_stands() -> None:
    drawn = re.findall(r"^\W*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    defined = {n: c for n, c in vars(errors).items() if inspect.isclass(c)}
    assert sorted(drawn) == sorted(defined)
    depth = {m[2]: len(m[1]) for m in re.finditer(r"^(\W*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)}
    for name, kind in defined.items():
        parents = [base.__name__ for base in kind.__mro__[1:] if base.__name__ in defined]
        assert not parents or depth[parents[0]] < depth[name], name
        assert inspect.getdoc(kind)


def test_packages_load_when_they_are_named() -> None:
    script = "import fedplan; print(len(fedplan.plan.OPS), fedplan.wire.State.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, name = done.stdout.split()
    assert int(count) > 100
    assert name == "State"
