"""What the site has beyond its pages: options of commands, signatures of Python, and files that pages link to."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import servesat
from servesat.cli import app

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
LINKED = ("examples", "hardware/README.md", "CONTRIBUTING.md")
"""Files and folders of the repository outside docs/ that the site has too."""
MARK = re.compile(r"^<!-- (options|signatures) -->$", re.MULTILINE)
"""Where a page asks for what is made here."""

PIPE = re.compile(r"`[^`\n]*\\\|[^`\n]*`")
"""Code of a table with a pipe, which GitHub wants escaped and Python-Markdown does not."""

LINE = 80
"""Characters of a signature in one line."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, below `repository/`, as they are."""
    for name in LINKED:
        path = ROOT / name
        for each in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            # a page of Markdown would be built, and its links with it: it is shown as text
            uri = f"repository/{each.relative_to(ROOT).as_posix()}".removesuffix(".md")
            files.append(File.generated(config, f"{uri}.txt", content=each.read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links out of docs/ at these files, and put what is made here where a page asks for it."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def inside(found: re.Match[str]) -> str:
        ups = found["up"].count("../")
        if ups <= depth:
            return found[0]
        return f"{'../' * depth}repository/{found['path'].removesuffix('.md')}.txt"

    made: dict[str, Callable[[], Iterable[str]]] = {"options": every_command, "signatures": every_name}
    whole = MARK.sub(lambda found: "\n".join(made[found[1]]()), LINK.sub(inside, markdown))
    return PIPE.sub(lambda found: found[0].replace(r"\|", "|"), whole)


def every_command() -> Iterator[str]:
    """The commands with what they say of themselves, their arguments and options."""
    root: Any = typer.main.get_command(app)
    for path, command in walk(root, "servesat"):
        yield f"## {path}\n"
        yield f"{text(command.help or '')}\n"
        context = command.make_context(path, [], resilient_parsing=True)
        records = [parameter.get_help_record(context) for parameter in command.params if parameter.name != "help"]
        yield from ("| argument or option | meaning |", "|---|---|")
        yield from (f"| `{cell(names)}` | {cell(text(said))} |" for names, said in filter(None, records))
        yield ""


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A command, or those of a group, with the words that call each."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    if path != "servesat" and command.params:
        yield path, command
    for name, each in command.commands.items():
        yield from walk(each, f"{path} {name}")


def cell(words: str) -> str:
    """Words as they stand in a cell of a table."""
    return words.replace("|", r"\|")


def text(help_text: str) -> str:
    """A help text as Markdown: what would be read as HTML or emphasis stands as it is."""
    plain = help_text.partition("\f")[0].strip()
    return re.sub(r"([<*_])", r"\\\1", plain)


def every_name() -> Iterator[str]:
    """What `import servesat` gives: functions with the answers that they return, then classes."""
    named = [(name, getattr(servesat, name)) for name in servesat.__all__ if not name.startswith("_")]
    for name, each in named:
        if inspect.isfunction(each):
            yield from (f"## {name}\n", signature(each), prose(each))
            returned = each.__annotations__.get("return")
            if inspect.isclass(returned):
                yield from (f"Returns a `{returned.__name__}`. {prose(returned)}", *members(returned))
    for name, each in named:
        if inspect.isclass(each):
            yield from (f"## {name}\n", prose(each), *members(each))


def members(owner: type) -> Iterator[str]:
    """The fields of a class, and its public methods and properties."""
    if is_dataclass(owner):
        yield from ("| field | type |", "|---|---|")
        yield from (f"| `{each.name}` | `{cell(type_of(each.type))}` |" for each in fields(owner))
        yield ""
    own = {
        name: each
        for base in reversed(owner.__mro__)
        if base.__module__.startswith("servesat")
        for name, each in vars(base).items()
    }
    for name, each in sorted(own.items()):
        function = each.__func__ if isinstance(each, classmethod) else each
        if not name.startswith("_") and isinstance(each, property) and each.__doc__:
            yield f"- `{name}`: {line(each)}"
        elif not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            arguments = ", ".join(key for key in inspect.signature(function).parameters if key not in ("self", "cls"))
            yield f"- `{name}({arguments})`: {line(function)}"
    yield ""


def type_of(annotation: Any) -> str:
    """A type as it is written, without the modules of its parts."""
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", written)


def syntax(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax of a function, from its source."""
    found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


def signature(function: Callable[..., Any]) -> str:
    """A function as its source declares it, with an argument a line where one line would be long."""
    found = syntax(function)
    arguments = re.split(r", (?![^\[]*\])(?![^(]*\))", ast.unparse(found.args))
    returns = ast.unparse(found.returns) if found.returns else "None"
    whole = f"{found.name}({', '.join(arguments)}) -> {returns}"
    if len(whole) > LINE:
        whole = "\n".join((f"{found.name}(", *(f"    {each}," for each in arguments), f") -> {returns}"))
    return f"```python\n{whole}\n```\n"


def line(each: Any) -> str:
    """A docstring in one line."""
    return " ".join(prose(each).split())


def prose(each: Any) -> str:
    """A docstring as Markdown: its examples in blocks of Python."""
    shown = re.sub(r"((?:^>>> .*\n?)+)", r"```python\n\1```\n", inspect.getdoc(each) or "", flags=re.MULTILINE)
    return shown.replace(">>> ", "") + "\n"
