"""The shape of the code: no import leads in a circle, no folder and no function grows beyond what can be read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "models", "federated", "sweeps", "reports")
LONGEST_FUNCTION = 40
LARGEST_FOLDER = 12
NO_CONTENT = ("__init__.py", "conftest.py")
LONGEST_REPEAT = 10
SEVERAL = 3
# What makes values of the bytes of a file or a message. `bench.core.schema` is the door for them; the others have a
# reason: tensors by the readers that execute nothing, a value typed on the command line, the package's own files, and
# what this process wrote a moment ago.
READERS = {
    "load", "loads", "load_file", "safe_open", "tensors_of", "open_memmap", "memmap", "fromfile", "loadtxt",
    "read_table", "ParquetFile", "read_parquet", "read_csv", "read_pickle", "read_json", "read_feather", "safe_load",
    "reader", "DictReader", "Unpickler", "literal_eval", "genfromtxt",
}  # fmt: skip
READING_MODULES = {
    "json", "tomllib", "pickle", "cloudpickle", "np", "numpy", "torch", "pq", "pd", "pandas", "yaml", "joblib", "csv",
    "format", "ast", "marshal", "shelve", "dill",
}  # fmt: skip
DOORS = {
    "federated/evaluation/answer.py": {"json.loads"},
    "federated/evaluation/request.py": {"json.loads"},
    "bench/core/schema.py": {"json.loads", "tomllib.loads", "np.load", "pq.ParquetFile", "format.open_memmap"},
    "models/weights/files.py": {"torch.load", "safe_open"},
    "models/recipes/state.py": {"load_file"},
    "models/predictor.py": {"tensors_of", "json.loads"},
    "bench/core/config.py": {"tomllib.loads"},
    "bench/analyses/run.py": {"json.loads"},
    "bench/store/conditions.py": {"json.loads"},
    "bench/data/sources/manifest.py": {"csv.reader"},
    "reports/tables/published.py": {"csv.DictReader"},
    "bench/data/images/cache.py": {"np.memmap"},
    "reports/html/pictures.py": {"np.memmap"},
    "federated/simulation/ray.py": {"cloudpickle.loads"},
    # What an export wrote a moment ago, read by a process that must load little; and what that process prints.
    "bench/harness/export/probe.py": {"json.loads"},
    "bench/harness/export/report.py": {"json.loads"},
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return where(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(tree: ast.AST, known: frozenset[str]) -> Iterator[str]:
    """The project's own modules that a file imports anywhere in it: inside functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in known else node.module
                if found in known:
                    yield found


def circles(files: dict[str, str]) -> list[set[str]]:
    """Sets of modules of which each one leads to every other by imports.

    Args:
        files: source text by module name.
    """
    known = frozenset(files)
    graph = {name: set(imported(ast.parse(text), known)) for name, text in files.items()}
    reached = {name: reachable(graph, name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        circle = {other for other in reached[name] if name in reached[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """The modules that importing `start` leads to; itself among them only where a circle leads back."""
    seen: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - seen
        seen |= new
        left += new
    return seen


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def length(function: Function) -> int:
    """Lines from the first decorator or `def` to the end, without the docstring."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    said = function.body[0] if ast.get_docstring(function) else None
    prose = (said.end_lineno or said.lineno) - said.lineno + 1 if said else 0
    return (function.end_lineno or first) - first + 1 - prose


def parameters(function: Function) -> list[ast.arg]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def public(tree: ast.Module) -> Iterator[Function]:
    """The public functions of a module and the methods of its public classes."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for node in (child for scope in [tree, *classes] for child in scope.body if isinstance(child, Function)):
        if not node.name.startswith("_"):
            yield node


def self_describing(trees: Iterable[ast.Module]) -> set[str]:
    """Annotations that say what a value is: the project's classes with a docstring, and options with their help."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef) and ast.get_docstring(node):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and "typer." in ast.unparse(node.value):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def undescribed(files: dict[str, str]) -> list[str]:
    """Public functions and methods of several parameters whose docstrings leave some out, "file:name: parameters".

    A parameter is described by its name in the docstring, in backticks in the module's docstring (where a file's
    functions share it), by a class of the project in its annotation, or by an option's help. A method that another
    class describes with the same parameters, its base say, need not repeat it.

    Args:
        files: source text by file name.
    """
    trees = {name: ast.parse(text) for name, text in files.items()}
    known, described, found = self_describing(trees.values()), set(), []
    for name, tree in trees.items():
        shared = set(re.findall(r"`(\w+)`", ast.get_docstring(tree) or ""))
        for function in public(tree):
            said = shared | set(re.findall(r"\w+", ast.get_docstring(function) or ""))
            given = parameters(function)
            left_out = [each.arg for each in given if each.arg not in said and not explained(each, known)]
            signature = (function.name, *(each.arg for each in given))
            if not left_out:
                described.add(signature)
            elif len(given) >= SEVERAL:
                found.append((signature, f"{name}:{function.name}: {', '.join(left_out)}"))
    return [line for signature, line in found if signature not in described]


def explained(argument: ast.arg, known: set[str]) -> bool:
    """Whether the annotation says what the argument is."""
    words = "" if argument.annotation is None else ast.unparse(argument.annotation)
    return "typer." in words or bool(known & set(re.findall(r"\w+", words)))


def code_lines(text: str) -> list[tuple[int, str]]:
    """Numbered lines that say something: no blank lines, comments, imports or docstrings."""
    tree = ast.parse(text)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        prose = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if prose or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in left_out)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def repeats(files: dict[str, str], run: int = LONGEST_REPEAT) -> list[str]:
    """Places where `run` lines of code stand that stand elsewhere too, "file:line = file:line"."""
    first: dict[tuple[str, ...], str] = {}
    found = []
    for name, text in files.items():
        lines = code_lines(text)
        for start in range(len(lines) - run + 1):
            window = lines[start : start + run]
            place = f"{name}:{window[0][0]}"
            twin = first.setdefault(tuple(line for _, line in window), place)
            if twin != place:
                found.append(f"{place} = {twin}")
    return found


def test_a_circle_is_found_wherever_the_import_stands():
    inside = {"a": "import b", "b": "def f():\n    from c import x\n", "c": "import a", "d": "import a"}
    assert circles(inside) == [{"a", "b", "c"}]
    for_types = {"a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b", "b": "import a"}
    assert circles(for_types) == [{"a", "b"}]
    assert circles({"a": "import a"}) == [{"a"}]
    assert circles({"a": "import b\nimport json", "b": "import json"}) == []
    assert circles({"p": "", "p.a": "from p import b", "p.b": ""}) == []


def test_no_import_leads_in_a_circle():
    found = circles({module_name(file): file.read_text() for file in sources(*PACKAGES)})
    assert found == []


def test_no_function_is_longer_than_can_be_read():
    long = [
        f"{where(file)}:{function.lineno} {function.name} has {length(function)} lines"
        for file in sources(*PACKAGES, "tools")
        for function in functions(ast.parse(file.read_text()))
        if length(function) > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_the_lines_of_a_function_are_counted_with_its_decorators_and_without_its_docstring():
    (function,) = functions(ast.parse('@a\n@b\ndef f():\n    """First.\n\n    Last."""\n    return 1\n'))
    assert length(function) == 4


@pytest.mark.parametrize("packages", [PACKAGES, ("tests",)])
def test_no_folder_holds_more_files_than_can_be_looked_over(packages: tuple[str, ...]):
    counts = Counter(where(file.parent) for file in sources(*packages) if file.name not in NO_CONTENT)
    large = {folder: count for folder, count in counts.items() if count > LARGEST_FOLDER}
    assert not large


def test_a_parameter_that_a_docstring_leaves_out_is_found():
    good = 'def f(a, b, c):\n    """Of a, b and c."""\n'
    assert undescribed({"x": good}) == []
    assert undescribed({"x": good.replace("and c", "")}) == ["x:f: c"]
    assert undescribed({"x": '"""Each takes a `c`."""\n' + good.replace("and c", "")}) == []
    assert undescribed({"x": good.replace("f(", "_f(").replace("and c", "")}) == []
    method = 'class A:\n    def f(self, a, b, c):\n        """Of a."""\n'
    assert undescribed({"x": method}) == ["x:f: b, c"]
    assert undescribed({"x": method, "y": good}) == []
    typed = method.replace("b, c", "b: B, c: list[B] | None")
    assert undescribed({"x": typed}) == ["x:f: b, c"]
    assert undescribed({"x": typed, "y": 'class B:\n    """A number of apples."""\n'}) == []


def test_every_parameter_of_public_functions_with_several_is_described():
    found = undescribed({where(file): file.read_text() for file in sources(*PACKAGES)})
    assert not found, "\n".join(found)


def test_a_repeated_run_is_found_through_blank_lines_and_comments():
    body = [f"x{number} = {number}" for number in range(5)]
    other = ["y = 1", *body[:2], "", "# why", *body[2:]]
    assert repeats({"a": "\n".join(body), "b": "\n".join(other)}, run=5) == ["b:2 = a:1"]
    assert repeats({"a": "\n".join(body), "b": "\n".join(other)}, run=6) == []


def test_no_run_of_lines_stands_twice():
    found = repeats({where(file): file.read_text() for file in sources(*PACKAGES, "tools", "benchmarks")})
    assert not found, "\n".join(found)


def readings(text: str) -> set[str]:
    """The calls in a file that make values of bytes, as they are written: "json.loads", "load_file"."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in READERS - {
            "load",
            "reader",
            "read_json",
            "read_table",
            "read_csv",
        }:
            found.add(called.id)
        elif isinstance(called, ast.Attribute) and called.attr in READERS:
            owner = called.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name in READING_MODULES:
                found.add(f"{name}.{called.attr}")
    return found


def test_a_reading_is_found_however_its_module_is_reached():
    text = "import json\ndef f():\n    return json.loads(x), np.lib.format.open_memmap(p), load_file(p), spec.load()"
    assert readings(text) == {"json.loads", "format.open_memmap", "load_file"}


def test_files_are_read_at_the_door_alone():
    found = {where(file): readings(file.read_text()) - DOORS.get(where(file), set()) for file in sources(*PACKAGES)}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_folders_of_tests_are_named_after_those_of_the_code():
    inside_bench = {folder.name for folder in (ROOT / "bench").iterdir() if folder.is_dir()}
    found = {file.relative_to(ROOT / "tests").parts[0] for file in sources("tests") if file.parent != ROOT / "tests"}
    assert found <= {*inside_bench, *PACKAGES, "contract", "fuzz"} - {"bench"}
