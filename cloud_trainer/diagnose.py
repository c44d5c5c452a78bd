"""What can be told of a reward function's file without running it.

Advice for its author, not a wall: whoever wants to can write around the list of forbidden calls, and meets the box.
"""

from __future__ import annotations

import ast
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pyflakes.checker import Checker  # type: ignore[import-untyped]
from pyflakes.messages import UndefinedLocal, UndefinedName  # type: ignore[import-untyped]

MOST_CHARACTERS: Final = 140_000
MODULES: Final = ("math", "random", "numpy", "scipy", "shapely")
BUILTINS: Final = frozenset({"open", "exec", "eval", "compile", "input", "__import__"})
NUMPY: Final = frozenset(
    {"load", "fromfile", "genfromtxt", "loadtxt", "tofile", "save", "savez", "savez_compressed", "savetxt", "memmap"}
)
MOST_FOUND: Final = 100
_LINE: Final = re.compile("\r\n|\r|\n")


_Found: TypeAlias = tuple[int, int, str]
"""Line, from 1; bytes of it before; message."""


@dataclass(frozen=True)
class Diagnostic:
    """One thing to mend. Line and column count from 1."""

    line: int
    column: int
    message: str


def decode(data: bytes) -> str | Diagnostic:
    """A file's text. A mark at its beginning may say that it is UTF-8."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return _at(data[: error.start].decode(), "this is not UTF-8")


def check(source: str) -> list[Diagnostic]:
    """What is wrong, in the order of the lines; empty if nothing was found."""
    if len(source) > MOST_CHARACTERS:
        return [Diagnostic(1, 1, f"the file has {len(source)} characters, and at most {MOST_CHARACTERS} are read")]
    if odd := re.search("[\0\ud800-\udfff]", source):
        what = "a null character" if odd[0] == "\0" else "a character that UTF-8 cannot write"
        return [_at(source[: odd.start()], f"there is {what} here")]
    try:
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        found = {*_names(tree), *_imports(nodes), *_calls(nodes), *_function(tree, nodes)}
    except SyntaxError as error:
        return [Diagnostic(max(error.lineno or 1, 1), max(error.offset or 1, 1), f"syntax error: {error.msg}")]
    except (RecursionError, MemoryError):
        return [Diagnostic(1, 1, "this is nested too deeply to be read")]
    except ValueError as error:
        return [Diagnostic(1, 1, f"this cannot be read: {error}")]
    lines = _LINE.split(source)
    return [
        Diagnostic(line, _column(lines, line, offset), message) for line, offset, message in sorted(found)[:MOST_FOUND]
    ]


def _names(tree: ast.Module) -> Iterator[_Found]:
    for message in Checker(tree).messages:
        if isinstance(message, UndefinedName | UndefinedLocal):
            name = message.message_args[0]
            yield message.lineno, message.col, f"undefined name {name}"


def _imports(nodes: list[ast.AST]) -> Iterator[_Found]:
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in (*MODULES, "__future__"):
                yield _on(node, f"{name} cannot be imported: only {', '.join(MODULES)} can")


def _calls(nodes: list[ast.AST]) -> Iterator[_Found]:
    """Calls of builtins and of numpy's functions that want a file or run text."""
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    modules: set[str] = set()
    functions: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {name.asname or "numpy" for name in node.names if name.name.split(".")[0] == "numpy"}
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy":
            functions |= {name.asname or name.name: name.name for name in node.names if name.name in NUMPY}
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in BUILTINS - own:
                yield _on(node, f"{name}() is not allowed")
            case ast.Name(id=name) if name in functions:
                yield _on(node, f"numpy.{functions[name]}() is not allowed")
            case ast.Attribute(value=ast.Name(id=name), attr=method) if name in modules and method in NUMPY:
                yield _on(node, f"numpy.{method}() is not allowed")
            case ast.Attribute(attr="tofile"):
                yield _on(node, "tofile() is not allowed")


def _function(tree: ast.Module, nodes: list[ast.AST]) -> Iterator[_Found]:
    name = "reward_function"
    for node in reversed(tree.body):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            if not node.decorator_list and not _takes_one(node.args):
                yield _on(node, f"{name} must take one argument, the parameters")
            return
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name:
            yield _on(node, f"{name} must be a plain function, not async")
            return
    # It may still be bound in another way: name = ..., in an if, by an import.
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    if not bound & {name, "*"}:
        yield 1, 0, f"there is no {name}: start with def {name}(params):"


def _takes_one(arguments: ast.arguments) -> bool:
    """Whether a call with one positional argument fits."""
    places = len(arguments.posonlyargs) + len(arguments.args)
    needed = places - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    return needed <= 1 and (places >= 1 or arguments.vararg is not None) and not named


def _on(node: ast.stmt | ast.expr, message: str) -> _Found:
    return node.lineno, node.col_offset, message


def _at(before: str, message: str) -> Diagnostic:
    """Right behind this much of the source."""
    lines = _LINE.split(before)
    return Diagnostic(len(lines), len(lines[-1]) + 1, message)


def _column(lines: list[str], line: int, offset: int) -> int:
    """The column of a byte of a line's UTF-8, which is how Python counts."""
    return len(lines[line - 1].encode()[:offset].decode(errors="replace")) + 1
