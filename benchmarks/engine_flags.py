"""Writes the command-line flags of a serving engine, read from its package without running it.

    python benchmarks/engine_flags.py vllm WHEEL > tests/published/engines/vllm-0.32.json
    python benchmarks/engine_flags.py sglang WHEEL > tests/published/engines/sglang-0.5.23.json
    python benchmarks/engine_flags.py trtllm FOLDER OWNER/REPO@COMMIT > tests/published/engines/trtllm.json

vLLM and TensorRT-LLM are read as syntax trees. SGLang fills its own argparse parser, with blanks for the packages that
are not installed: only msgspec must be. FOLDER holds TensorRT-LLM's sources.
"""

import abc
import argparse
import ast
import importlib.abc
import importlib.util
import json
import sys
import types
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

Choices = tuple[str | int, ...]


@dataclass(frozen=True)
class Flag:
    """One option of a command line; `nargs` is None for one value, and for a flag that takes none."""

    kind: str
    choices: Choices | None = None
    nargs: str | int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hint:
    """One alternative of a type annotation, such as int, or None, or a Literal with its values."""

    name: str
    values: Choices = ()
    of: tuple["Hint", ...] = ()
    record: tuple[str, ast.ClassDef] | None = None


# --- Python sources, without importing them ---


class Sources:
    """The modules in a wheel or in a folder, parsed when first asked for."""

    def __init__(self, package: Path) -> None:
        self._root = zipfile.Path(package) if package.is_file() else package
        self._trees: dict[str, ast.Module] = {}

    def tree(self, module: str) -> ast.Module | None:
        """The syntax of a module, or None if the package has no such module."""
        if module not in self._trees:
            base = module.replace(".", "/")
            found = [self._root / name for name in (f"{base}.py", f"{base}/__init__.py")]
            source = next((file.read_text(encoding="utf-8") for file in found if file.is_file()), None)
            if source is None:
                return None
            self._trees[module] = ast.parse(source)
        return self._trees[module]

    def find(self, module: str, name: str) -> tuple[str, ast.AST] | None:
        """What a name means in a module: an expression or a class, with the module that has it."""
        tree = self.tree(module)
        for statement in _statements(tree.body) if tree else ():
            match statement:
                case ast.ClassDef(name=found) if found == name:
                    return module, statement
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    return module, value
                case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                    return module, value
                case ast.ImportFrom(names=names):
                    for alias in names:
                        if (alias.asname or alias.name) == name:
                            return self.find(_imported(self, module, statement), alias.name)
        return None

    def module_of(self, module: str, name: str) -> str | None:
        """The module that `import ... as name` binds."""
        tree = self.tree(module)
        imports = (s for s in _statements(tree.body) if isinstance(s, ast.Import)) if tree else ()
        return next((alias.name for s in imports for alias in s.names if (alias.asname or alias.name) == name), None)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those in its branches too: the branch for type checkers comes before its else."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements(statement.body)
            yield from _statements(getattr(statement, "orelse", []))


def _imported(sources: Sources, module: str, statement: ast.ImportFrom) -> str:
    """The full name of the module that `from ... import` reads."""
    if not statement.level:
        return statement.module or ""
    is_package = sources.tree(f"{module}.__init__") is not None
    parts = module.split(".")
    base = parts[: len(parts) - statement.level + is_package]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _class_of(sources: Sources, module: str, name: str) -> tuple[str, ast.ClassDef]:
    found = sources.find(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        raise SystemExit(f"{module} has no class {name}")
    return found[0], found[1]


def _function(body: Sequence[ast.stmt], name: str) -> ast.FunctionDef | None:
    return next((s for s in body if isinstance(s, ast.FunctionDef) and s.name == name), None)


def _last(node: ast.AST | None) -> str:
    """The last part of a name, of a dotted name, or of what is called or subscripted."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last(inner)
    return ""


def _text(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


# --- Types ---

_PLAIN = {"int", "float", "str", "bool", "dict", "list", "tuple", "set"}
_SAME = {
    **{name: name for name in _PLAIN},
    **{name: name.lower() for name in ("Dict", "List", "Tuple", "Set")},
    **{"Sequence": "list", "Mapping": "dict", "None": "none", "Path": "str", "StrictInt": "int"},
    **{f"{sign}{kind.title()}": kind for sign in ("Positive", "NonNegative") for kind in ("int", "float")},
}
_TRANSPARENT = {"Annotated", "SkipValidation", "Final"}


def hints_of(sources: Sources, module: str, node: ast.AST | None) -> tuple[Hint, ...]:
    """The alternatives of a type annotation, through its aliases."""
    match node:
        case ast.Constant():
            quoted = ast.parse(_text(node) or "None", mode="eval").body
            return hints_of(sources, module, quoted) if _text(node) else (Hint("none"),)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return hints_of(sources, module, left) + hints_of(sources, module, right)
        case ast.Subscript(slice=inner):
            return _generic(sources, module, _last(node), inner.elts if isinstance(inner, ast.Tuple) else [inner])
        case ast.Name(id=name) if name in _SAME:
            return (Hint(_SAME[name]),)
        case ast.Name() | ast.Attribute():
            return _named(sources, module, node)
    return (Hint("other"),)


def _generic(sources: Sources, module: str, head: str, inner: list[ast.expr]) -> tuple[Hint, ...]:
    """The alternatives of `head[inner]`."""
    if head == "Literal":
        return (Hint("literal", values=tuple(v for node in inner for v in _values(sources, module, node))),)
    if head in _TRANSPARENT:
        return hints_of(sources, module, inner[0])
    if head in {"Optional", "Union"}:
        found = tuple(hint for node in inner for hint in hints_of(sources, module, node))
        return found if head == "Union" else (*found, Hint("none"))
    if _SAME.get(head) in {"list", "set"}:
        return (Hint(_SAME[head], of=hints_of(sources, module, inner[0])),)
    if _SAME.get(head) == "tuple":
        open_ended = isinstance(inner[-1], ast.Constant) and inner[-1].value is ...
        size = () if open_ended else (len(inner),)
        return (Hint("tuple", values=size, of=hints_of(sources, module, inner[0])),)
    return (Hint(_SAME.get(head, "other")),)


def _values(sources: Sources, module: str, node: ast.AST) -> Choices:
    """The values of one element of a Literal, which may itself name a Literal."""
    if isinstance(node, ast.Constant):
        return (node.value,) if isinstance(node.value, str | int) else ()
    return tuple(value for hint in hints_of(sources, module, node) for value in hint.values)


def _named(sources: Sources, module: str, node: ast.Name | ast.Attribute) -> tuple[Hint, ...]:
    """The alternatives that a name of a class or of a type alias stands for."""
    home = sources.module_of(module, _last(node.value)) if isinstance(node, ast.Attribute) else module
    found = sources.find(home, _last(node)) if home else None
    if found is None:
        return (Hint("other"),)
    if not isinstance(found[1], ast.ClassDef):
        return hints_of(sources, found[0], found[1])
    bases = {_last(base) for base in _lineage(sources, *found)}
    if {"TypedDict", "Enum", "StrEnum"} & bases:
        return (Hint("other"),)
    if "dict" in bases:
        return (Hint("dict"),)
    decorators = {_last(decorator) for decorator in found[1].decorator_list}
    is_record = bool({"config", "dataclass"} & decorators or "BaseModel" in bases)
    return (Hint("record", record=(found[0], found[1])) if is_record else Hint("other"),)


def _lineage(sources: Sources, module: str, node: ast.AST) -> Iterator[ast.expr]:
    """The bases of a class, and theirs, as they are written."""
    for base in node.bases if isinstance(node, ast.ClassDef) else ():
        yield base
        found = sources.find(module, _last(base))
        if found is not None:
            yield from _lineage(sources, *found)


def flag_of(hints: Sequence[Hint]) -> Flag:
    """What an option of this type takes, by the order in which vLLM decides.

    A text that plug-ins may extend has the choices that come with the engine, though its parser takes any.
    """
    by_name = {hint.name: hint for hint in hints}
    if "record" in by_name:
        return Flag("json")
    if set(by_name) == {"bool", "str", "none"}:
        return Flag("text", nargs="?")
    if "bool" in by_name:
        return Flag("flag")
    if "literal" in by_name:
        values = by_name["literal"].values
        return Flag("int" if isinstance(values[0], int) else "text", _sorted(values))
    for name in ("tuple", "list", "set"):
        if name in by_name:
            several = by_name[name]
            size = several.values[0] if name == "tuple" and several.values else "+"
            return replace(flag_of(several.of or (Hint("str"),)), nargs=size)
    return Flag(_kind(set(by_name)))


def _sorted(choices: Iterable[Any]) -> Choices:
    """Choices in order: they are all numbers or all texts."""
    return tuple(sorted(choices))


def _kind(names: set[str]) -> str:
    if "dict" in names and "str" not in names:
        return "json"
    return next((name for name in ("int", "float") if name in names), "text")


def fields_of(sources: Sources, module: str, node: ast.ClassDef) -> dict[str, tuple[Hint, ...]]:
    """The fields of a record with their types, those of its bases first."""
    fields: dict[str, tuple[Hint, ...]] = {}
    for base in node.bases:
        found = sources.find(module, _last(base))
        if found is not None and isinstance(found[1], ast.ClassDef):
            fields |= fields_of(sources, found[0], found[1])
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                if _last(annotation) != "ClassVar" and not name.startswith("_"):
                    fields[name] = hints_of(sources, module, annotation)
    return fields


# --- vLLM ---

_ARGUMENTS = "vllm.engine.arg_utils"
_FRONTEND = "vllm.entrypoints.launchers.cli_args"


def vllm_flags(sources: Sources) -> list[Flag]:
    """The flags of `vllm serve`: of the server, of its front end, and of the engine."""
    flags = list(_frontend_flags(sources))
    tree = sources.tree(_FRONTEND)
    bodies = [(_FRONTEND, _function(tree.body if tree else [], "make_arg_parser"))]
    for name in ("EngineArgs", "AsyncEngineArgs"):
        bodies.append((_ARGUMENTS, _function(_class_of(sources, _ARGUMENTS, name)[1].body, "add_cli_args")))
    for module, function in bodies:
        assert function is not None, module
        reader = _Reader(sources, module, {})
        reader.read(function.body)
        flags += reader.flags
    return flags


def _frontend_flags(sources: Sources) -> Iterator[Flag]:
    """A flag for each field of the front end's arguments, as its classes then change them."""
    module, frontend = _class_of(sources, _FRONTEND, "FrontendArgs")
    reader = _Reader(sources, module, {"frontend_kwargs": _kwargs(sources, module, frontend)})
    for name in ("BaseFrontendArgs", "FrontendArgs"):
        function = _function(_class_of(sources, module, name)[1].body, "_customize_cli_kwargs")
        assert function is not None, name
        reader.read(function.body)
    for name, flag in reader.kwargs["frontend_kwargs"].items():
        yield _negated(replace(flag, names=(f"--{name.replace('_', '-')}",)))


def _kwargs(sources: Sources, module: str, node: ast.ClassDef) -> dict[str, Flag]:
    return {name: flag_of(hints) for name, hints in fields_of(sources, module, node).items()}


def _negated(flag: Flag) -> Flag:
    """A boolean flag with its --no- names, as argparse.BooleanOptionalAction gives them."""
    if flag.kind != "flag":
        return flag
    return replace(flag, names=(*flag.names, *(f"--no-{n[2:]}" for n in flag.names if n.startswith("--"))))


class _Reader:
    """Follows the statements of a function that fills an argparse parser from the fields of records."""

    def __init__(self, sources: Sources, module: str, kwargs: dict[str, dict[str, Flag]]) -> None:
        self.sources, self.module, self.kwargs = sources, module, kwargs
        self.flags: list[Flag] = []
        self._single: dict[str, Flag] = {}

    def read(self, body: Sequence[ast.stmt]) -> None:
        for statement in _statements(body):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if _last(call) == "get_kwargs":
                    self.kwargs[name] = self._fields(call)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() as value):
                    self._single[name] = self._flag(value)
                case ast.Assign(targets=[ast.Subscript(value=of, slice=ast.Constant(value="type"))], value=value):
                    self._put(of, kind=_kind_of_type(value))
                case ast.Assign(targets=[ast.Subscript(value=of, slice=ast.Constant(value="action"))], value=value):
                    self._put(of, nargs=None if _text(value) == "append" else self._flag(of).nargs)
                case ast.Delete(targets=[ast.Subscript(value=of, slice=ast.Constant(value="nargs"))]):
                    self._put(of, nargs=None)
                case ast.Expr(value=ast.Call(func=ast.Attribute(attr="remove", value=ast.Subscript(value=of)), args=a)):
                    self._remove(of, a[0])
                case ast.Expr(value=call) | ast.Assign(value=call) if _last(call) == "add_argument":
                    assert isinstance(call, ast.Call)
                    self._add(call)

    def _fields(self, call: ast.Call) -> dict[str, Flag]:
        return _kwargs(self.sources, *_class_of(self.sources, self.module, _last(call.args[0])))

    def _flag(self, node: ast.AST) -> Flag:
        """The flag that `kwargs["field"]`, `get_kwargs(Record)["field"]` or a name for one stands for."""
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=key) if name in self.kwargs:
                return self.kwargs[name][_text(key)]
            case ast.Subscript(value=ast.Call() as call, slice=key):
                return self._fields(call)[_text(key)]
            case ast.Name(id=name):
                return self._single[name]
            case ast.Dict(keys=[None, *_], values=[first, *_]):
                return self._flag(first)
        raise SystemExit(f"not understood, in {self.module}: {ast.unparse(node)}")

    def _put(self, node: ast.AST, **changes: Any) -> None:
        changed = replace(self._flag(node), **{name: value for name, value in changes.items() if value != ""})
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=key):
                self.kwargs[name][_text(key)] = changed
            case ast.Name(id=name):
                self._single[name] = changed

    def _remove(self, node: ast.AST, value: ast.expr) -> None:
        """Takes a value, given by the name of a constant, from the choices of a flag."""
        found = self.sources.find(self.module, _last(value))
        removed = _text(found[1]) if found else _text(value)
        self._put(node, choices=tuple(choice for choice in self._flag(node).choices or () if choice != removed))

    def _add(self, call: ast.Call) -> None:
        names = tuple(_text(argument) for argument in call.args)
        if not names[0].startswith("-"):
            return
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if None in given:
            self.flags.append(_negated(replace(self._flag(given[None]), names=names)))
            return
        action = _text(given.get("action")) or _last(given.get("action"))
        if action in {"store_true", "BooleanOptionalAction"}:
            flag = Flag("flag", names=names)
            self.flags.append(_negated(flag) if action == "BooleanOptionalAction" else flag)
            return
        kind = _kind_of_type(given.get("type")) or "text"
        self.flags.append(Flag(kind, self._choices(given.get("choices")), names=names))

    def _choices(self, node: ast.AST | None) -> Choices | None:
        """The choices of a list or of a Literal; None where they depend on the machine."""
        match node:
            case ast.List(elts=elements):
                return _sorted(map(_text, elements))
            case ast.Call(args=[alias]) if _last(node) == "get_args":
                return _values(self.sources, self.module, alias)
        return None


def _kind_of_type(node: ast.AST | None) -> str:
    """The kind of value that argparse's `type=` reads, or "" if it only changes the text."""
    if isinstance(node, ast.Call) and node.args:
        return _kind_of_type(node.args[0])
    kinds = {"loads": "json", "str": "text", "int": "int", "float": "float", "human_readable_int": "int"}
    return kinds.get(_last(node), "")


# --- SGLang ---


class _Blank(abc.ABCMeta):
    """A class that stands for any class, function, decorator or number of a package that is not installed."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "is_blank" not in vars(cls):
            return super().__call__(*args, **kwargs)
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else cls

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name != "__class_validators__":
            raise AttributeError(name)
        return _blank(name)

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __bool__(cls) -> bool:
        return False

    def __index__(cls) -> int:
        return 0

    def _itself(cls, *_: Any) -> Any:
        return cls

    def _no(cls, *_: Any) -> bool:
        return False

    __enter__ = __getitem__ = __add__ = __radd__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = _itself
    __exit__ = __contains__ = __lt__ = __gt__ = __le__ = __ge__ = _no


def _blank(name: str) -> Any:
    return _Blank(name, (), {"is_blank": True})


class _BlankModule(types.ModuleType):
    """A module in which every name is a blank."""

    __path__: list[str] = []
    __version__ = "99.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _blank(name)


class _BlankFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a blank for every module whose name starts so; the others it leaves alone."""

    def __init__(self, start: str, but: str = " ") -> None:
        self._start, self._but = start, but

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(self._start) or fullname.startswith(self._but):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _BlankModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: a blank is complete."""


def sglang_flags(wheel: Path) -> list[Flag]:
    """The flags of SGLang's own parser, filled with blanks in place of torch and the like."""
    if importlib.util.find_spec("msgspec") is None:
        raise SystemExit("SGLang's arguments are msgspec records: pip install msgspec")
    package = types.ModuleType("sglang")  # its own __init__ imports the whole library
    package.__path__ = [f"{wheel}/sglang"]
    sys.modules["sglang"] = package
    sys.meta_path.insert(0, _BlankFinder("sglang.srt.distributed"))  # it looks for devices
    sys.meta_path.append(_BlankFinder("", but="sglang"))
    arguments = importlib.import_module("sglang.srt.server_args")
    parser = argparse.ArgumentParser(add_help=False)
    arguments.ServerArgs.add_cli_args(parser)
    return [_of_action(action) for action in parser._actions]


def _of_action(action: argparse.Action) -> Flag:
    names = tuple(action.option_strings)
    if action.nargs == 0:
        return Flag("flag", names=names)
    parse = getattr(action.type, "__name__", "str")
    kinds = {"int": "int", "float": "float", "human_readable_int": "int", "loads": "json", "json_list_type": "json"}
    choices = _sorted(action.choices) if action.choices else None
    return Flag(kinds.get(parse, "text"), choices, action.nargs, names)


# --- TensorRT-LLM ---


def trtllm_flags(sources: Sources) -> list[Flag]:
    """The options of `trtllm-serve`, which click reads from decorators."""
    tree = sources.tree("tensorrt_llm.commands.serve")
    function = _function(tree.body if tree else [], "serve")
    assert function is not None
    calls = (call for call in function.decorator_list if isinstance(call, ast.Call) and _last(call) == "option")
    return [_of_option(call) for call in calls]


def _of_option(call: ast.Call) -> Flag:
    names = tuple(name for name in map(_text, call.args) if name.startswith("-"))
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "is_flag" in given:
        return Flag("flag", names=names)
    match given.get("type"):
        case ast.Call(args=[ast.List(elts=elements), *_]):
            return Flag("text", _sorted(map(_text, elements)), names=names)
        case kind:
            return Flag(_kind_of_type(kind) or "text", names=names)


def trtllm_keys(sources: Sources, module: str, node: ast.ClassDef) -> dict[str, Any]:
    """The keys of TensorRT-LLM's configuration file with what each takes, records within records."""
    return {name: _key(sources, hints) for name, hints in sorted(fields_of(sources, module, node).items())}


def _key(sources: Sources, hints: Sequence[Hint]) -> Any:
    records = [hint.record for hint in hints if hint.record]
    if len(records) == 1:
        return trtllm_keys(sources, *records[0])
    flag = flag_of(hints)
    if flag.choices:
        return list(flag.choices)
    return "list" if flag.nargs == "+" else {"flag": "bool"}.get(flag.kind, flag.kind)


# --- Snapshots ---


def lines(flags: Sequence[Flag]) -> Iterator[str]:
    """One flag a line, by name, the first of each name: argparse takes no other."""
    for flag in sorted({flag.names[0]: flag for flag in reversed(flags)}.values(), key=lambda flag: flag.names):
        record = {"names": flag.names, "kind": flag.kind, "choices": flag.choices, "nargs": flag.nargs}
        yield "    " + json.dumps(record)


def snapshot(head: dict[str, Any], flags: Sequence[Flag]) -> str:
    """The text of a snapshot: its other keys first, then the flags."""
    start = json.dumps(head, indent=2).removesuffix("\n}")
    return start + ',\n  "flags": [\n' + ",\n".join(lines(flags)) + "\n  ]\n}\n"


def _trtllm(folder: Path, source: str) -> str:
    sources = Sources(folder)
    version = sources.find("tensorrt_llm.version", "__version__")
    module = "tensorrt_llm.llmapi.llm_args"
    keys = trtllm_keys(sources, *_class_of(sources, module, "TorchLlmArgs"))
    cached = sources.find("tensorrt_llm._torch.pyexecutor.model_loader", "_VALID_KV_CACHE_DTYPES")
    assert cached is not None
    assert isinstance(cached[1], ast.Tuple)
    keys["kv_cache_config"]["dtype"] = list(_sorted(map(_text, cached[1].elts)))
    head = {"engine": "trtllm", "version": _text(version[1] if version else None)}
    head["source"] = f"{source}:{module.replace('.', '/')}.py"
    return snapshot(head | {"keys": keys}, trtllm_flags(sources))


def main(engine: str, package: str, source: str = "") -> None:
    if engine == "trtllm":
        print(_trtllm(Path(package), source), end="")
        return
    name, version = Path(package).name.split("-")[:2]
    flags = vllm_flags(Sources(Path(package))) if engine == "vllm" else sglang_flags(Path(package))
    print(snapshot({"engine": engine, "version": version, "wheel": f"{name}-{version}"}, flags), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
