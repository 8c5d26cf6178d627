"""The rules that the source keeps: layers, imports, names, sizes, and what is public.

Every check is a function from modules to a list of faults. The first tests hold the package itself against
them; the last ones show, on small packages made for it, that each check finds what it is there to find.
"""

import ast
import dataclasses
import graphlib
import importlib
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]

LAYERS = {
    "wire": set(),
    "data": set(),
    "plan": {"wire"},
    "federation": {"wire", "plan"},
    "client": {"wire", "plan", "data", "federation"},
    "grid": {"wire", "plan", "federation"},
    "simulation": {"wire", "data", "plan", "federation", "client"},
    "cli": {"wire", "data", "plan", "federation", "client", "grid", "simulation", ""},
}
"""What each layer may import, besides itself; "" is the package `fedplan` with its public names."""

FREE = {"errors", "text", "tls", "version"}
"""Modules that every layer may import, and that import no layer."""

PUBLIC = {"wire", "data", "plan", "federation", "client", "simulation"}
"""What `fedplan/__init__.py` may import: the layers that need no extra to be installed."""

SERVER = {"grid", "cli"}
TERMINAL = {"client", "simulation", "cli"}
ONLY_IN = {
    "torch": {"plan", "federation", "client", "data", "simulation", "cli"},
    "alembic": SERVER,
    "asyncpg": SERVER,
    "cryptography": {"federation", *SERVER},
    "fastapi": SERVER,
    "jinja2": SERVER,
    "jwt": SERVER,
    "obstore": SERVER,
    **dict.fromkeys(("prometheus_client", "pydantic_settings", "sqlalchemy", "starlette", "uvicorn"), SERVER),
    "backports": {"wire"},
    "rich": TERMINAL,
    "typer": {"cli"},
}
"""Libraries that may be imported only in these layers."""

OPTIONAL = {
    *("dp_accounting", "matplotlib", "mlflow", "pandas"),
    *("ray", "safetensors", "sklearn", "tensorboard"),
}
"""Libraries that not every installation has; they are imported in the function that needs them."""

FORBIDDEN_NAMES = {
    *("util", "utils", "common", "base", "manager", "managers"),
    *("helper", "helpers", "types", "constants"),
}

MAX_LINES = 400


@dataclasses.dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    path: pathlib.Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        """First name below `fedplan`; "" for the package itself."""
        return [*self.name.split("."), ""][1]

    @property
    def package(self) -> str:
        """The package whose names `from . import` means."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclasses.dataclass(frozen=True)
class Import:
    """One module that another one imports."""

    by: Module
    line: int
    target: str
    in_function: bool

    @property
    def layer(self) -> str | None:
        """The layer of `fedplan` that is imported; None for other libraries."""
        top, _, rest = self.target.partition(".")
        return rest.partition(".")[0] if top == "fedplan" else None

    def __str__(self) -> str:
        return f"{self.by.name}:{self.line} imports {self.target}"


def read(package: pathlib.Path) -> dict[str, Module]:
    """All modules of the package in this folder, by their names."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = ["fedplan", *path.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path, ast.parse(path.read_text(), path))
    return modules


def imports(modules: dict[str, Module]) -> Iterator[Import]:
    """Every import of every module, those for type checkers too: a dependency is one in any case."""
    for module in modules.values():
        inside = {
            id(node)
            for function in ast.walk(module.tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            and function not in _loaders(module)
            for node in ast.walk(function)
        }
        for node in ast.walk(module.tree):
            for target in _targets(node, module, modules):
                yield Import(module, node.lineno, target, id(node) in inside)


def _loaders(module: Module) -> list[ast.FunctionDef]:
    """A module's own `__getattr__` (PEP 562), which imports what is used for the first time."""
    body = [n for node in module.tree.body for n in (node.body if isinstance(node, ast.If) else [node])]
    return [n for n in body if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]


def _statements(module: Module) -> list[ast.stmt]:
    """A module's top-level statements, with those that only type checkers see."""
    blocks = [n for n in module.tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return sum((block.body for block in blocks), start=module.tree.body)


def _targets(node: ast.AST, module: Module, modules: dict[str, Module]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        source = _source(node, module)
        return [f"{source}.{a.name}" if f"{source}.{a.name}" in modules else source for a in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
        return [ast.unparse(node.args[0]).strip("'\"") if node.args else "?"]
    return []


def _source(node: ast.ImportFrom, module: Module) -> str:
    if node.level == 0:
        return node.module or ""
    above = module.package.split(".")[: len(module.package.split(".")) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


# The checks


def unknown_layers(modules: dict[str, Module]) -> list[str]:
    """Modules and packages right under `fedplan` that the table does not know."""
    known = {"", "__main__", *LAYERS, *FREE}
    return sorted({f"fedplan.{m.layer} is no layer" for m in modules.values() if m.layer not in known})


def crossed_layers(modules: dict[str, Module]) -> list[str]:
    """Imports of a layer that the table does not allow."""
    allowed = {"": PUBLIC, "__main__": {"cli"}, "errors": set(), "version": set(), **LAYERS}
    return [
        str(found)
        for found in imports(modules)
        if found.layer is not None
        and found.layer not in allowed.get(found.by.layer, set()) | FREE | {found.by.layer}
    ]


def misplaced_libraries(modules: dict[str, Module]) -> list[str]:
    """Imports of a library outside the layers that it is for."""
    return [
        str(found)
        for found in imports(modules)
        if found.by.layer not in ONLY_IN.get(found.target.partition(".")[0], {found.by.layer})
    ]


def hidden_imports(modules: dict[str, Module]) -> list[str]:
    """Imports inside functions, but for optional libraries and in `cli`; and optional ones outside."""
    return [
        f"{found} {'inside' if found.in_function else 'outside'} a function"
        for found in imports(modules)
        if (found.target.partition(".")[0] in OPTIONAL) != found.in_function and found.by.layer != "cli"
    ]


def import_cycles(modules: dict[str, Module]) -> list[str]:
    """The first cycle among the modules."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for found in imports(modules):
        if found.target in modules:
            graph[found.by.name].add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" → ".join(error.args[1])]
    return []


def forbidden_names(modules: dict[str, Module]) -> list[str]:
    """Modules whose names say nothing."""
    return [name for name in modules if FORBIDDEN_NAMES & {part.strip("_") for part in name.split(".")}]


def long_files(folder: pathlib.Path) -> list[str]:
    """Files that have grown beyond one idea."""
    counts = {path: len(path.read_text().splitlines()) for path in sorted(folder.rglob("*.py"))}
    return [f"{path} has {count} lines" for path, count in counts.items() if count > MAX_LINES]


def undocumented_names(modules: dict[str, Module]) -> list[str]:
    """Names that a package lists as public and that have no documentation, or that it forgot to list."""
    faults = []
    for module in modules.values():
        if module.layer not in {"", *LAYERS} or module.name.count(".") > 1 or module.name != module.package:
            continue
        listed, bound = _listed(module), {name for name in _bound(module) if not name.startswith("_")}
        faults += [f"{module.name} binds {name}, but __all__ lacks it" for name in sorted(bound - listed)]
        for name in sorted(listed):
            if not _documentation(module, name, modules):
                faults.append(f"{module.name}.{name} has no documentation")
    return faults


def _listed(module: Module) -> set[str]:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _bound(module: Module) -> set[str]:
    """Names that a package takes from its own modules or defines."""
    names = set()
    for node in _statements(module):
        if isinstance(node, ast.ImportFrom) and _source(node, module).startswith("fedplan"):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names.add(_assigned(node))
    return names


def _assigned(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)


def _documentation(module: Module, name: str, modules: dict[str, Module]) -> str | None:
    """The docstring of a name, found where it is defined.

    For a constant it is the text behind it; for `name = wrapper(function)`, that of the function.
    """
    if f"{module.name}.{name}" in modules and name not in _bound(module):
        return ast.get_docstring(modules[f"{module.name}.{name}"].tree)
    body = _statements(module)
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigned(node) == name:
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                return str(following.value.value)
            made_of = node.value.args[:1] if isinstance(node.value, ast.Call) else []
            return _documentation(module, ast.unparse(made_of[0]), modules) if made_of else None
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                source = _source(node, module)
                if (alias.asname or alias.name) == name and f"{source}.{alias.name}" in modules:
                    return ast.get_docstring(modules[f"{source}.{alias.name}"].tree)
                if (alias.asname or alias.name) == name and source in modules:
                    return _documentation(modules[source], alias.name, modules)
    return None


CHECKS = (
    unknown_layers,
    crossed_layers,
    misplaced_libraries,
    hidden_imports,
    import_cycles,
    forbidden_names,
    undocumented_names,
)
"""Every check of modules."""

FEDPLAN = read(ROOT / "src" / "fedplan")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_is_without(check):
    assert check(FEDPLAN) == []


@pytest.mark.parametrize("folder", ["src", "tests", "examples", "benchmarks"])
def test_no_file_is_longer_than_one_idea(folder):
    assert long_files(ROOT / folder) == []


@pytest.mark.parametrize("name", [m.name for m in FEDPLAN.values() if m.name == m.package and _listed(m)])
def test_the_public_names_of_a_package_exist(name):
    package = importlib.import_module(name)

    assert [public for public in package.__all__ if not hasattr(package, public)] == []
    assert len(set(package.__all__)) == len(package.__all__)


# That the checks find what they look for


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (unknown_layers, "tools/__init__.py", ""),
        (unknown_layers, "stray.py", ""),
        (crossed_layers, "wire/a.py", "from fedplan.plan import b"),
        (crossed_layers, "wire/a.py", "import fedplan.data.b"),
        (crossed_layers, "client/a.py", "from fedplan.grid.app import create_app"),
        (crossed_layers, "grid/a.py", "from fedplan import client"),
        (crossed_layers, "grid/a.py", "from fedplan import trace"),
        (crossed_layers, "grid/deep/a.py", "from ...client import b"),
        (crossed_layers, "grid/a.py", "def f():\n    import fedplan.client"),
        (crossed_layers, "grid/a.py", "import importlib\nimportlib.import_module('fedplan.client')"),
        (
            crossed_layers,
            "data/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fedplan.plan",
        ),
        (crossed_layers, "simulation/a.py", "from fedplan.grid import Grid"),
        (crossed_layers, "__init__.py", "from fedplan.grid import b"),
        (crossed_layers, "errors.py", "from fedplan.wire import b"),
        (misplaced_libraries, "grid/a.py", "import torch"),
        (misplaced_libraries, "wire/a.py", "from torch.nn import functional"),
        (misplaced_libraries, "client/a.py", "import sqlalchemy.ext.asyncio"),
        (misplaced_libraries, "wire/a.py", "from rich import print"),
        (hidden_imports, "wire/a.py", "def f():\n    import json"),
        (hidden_imports, "wire/a.py", "class A:\n    async def f(self):\n        from json import dumps"),
        (hidden_imports, "client/a.py", "import matplotlib.pyplot"),
        (import_cycles, "wire/a.py", "from fedplan.wire import b"),
        (import_cycles, "wire/a.py", "from fedplan.wire.a import x"),
        (forbidden_names, "wire/utils.py", ""),
        (forbidden_names, "grid/_helpers/a.py", ""),
        (undocumented_names, "wire/__init__.py", "from fedplan.wire.a import f\n__all__ = ['f']"),
        (undocumented_names, "wire/__init__.py", "from fedplan.wire.a import LIMIT\n__all__ = ['LIMIT']"),
        (undocumented_names, "wire/__init__.py", "from fedplan.wire.b import good\n__all__ = []"),
        (undocumented_names, "wire/__init__.py", "from fedplan.wire.b import good"),
        (undocumented_names, "wire/__init__.py", "__all__ = ['missing']"),
    ],
)
def test_a_fault_is_found(tmp_path, check, path, text):
    package = {
        "__init__.py": "",
        "wire/__init__.py": "",
        "wire/a.py": "def f(): pass\nLIMIT = 3",
        "wire/b.py": "from fedplan.wire import a\ndef good():\n    'Says what it does.'",
        path: text,
    }
    for name, content in package.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    assert len(check(read(tmp_path))) == 1


def test_a_package_that_keeps_the_rules_is_without_faults(tmp_path):
    package = {
        "__init__.py": "from fedplan.plan import trace\n__all__ = ['trace']",
        "errors.py": "class FedplanError(Exception):\n    'Base.'",
        "wire/__init__.py": "from fedplan.wire import codec\n__all__ = ['codec']",
        "wire/codec.py": "'Bytes.'\nfrom ..errors import FedplanError\nfrom . import limits",
        "wire/limits.py": "import json\nLIMIT = 3\n'Most of it.'",
        "plan/__init__.py": "from fedplan.plan.a import LIMIT, trace\n__all__ = ['LIMIT', 'trace']",
        "plan/a.py": "import torch\nfrom fedplan.wire.limits import LIMIT\nfrom fedplan.plan.b import trace",
        "plan/b.py": "def slow_trace():\n    'Traces.'\n    import sklearn\ntrace = faster(slow_trace)",
        "cli/__init__.py": "",
        "cli/main.py": "def run():\n    import fedplan\n    from fedplan.wire import codec",
    }
    for name, content in package.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    assert [fault for check in CHECKS for fault in check(read(tmp_path))] == []


def test_a_file_that_is_too_long_is_found(tmp_path):
    (tmp_path / "long.py").write_text("x = 1\n" * (MAX_LINES + 1))
    (tmp_path / "short.py").write_text("x = 1\n" * MAX_LINES)

    assert len(long_files(tmp_path)) == 1
