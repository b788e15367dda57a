"""What the site has beyond its pages: the options of every command, and the files of the repository that pages link."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from servesat.cli import app

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
LINKED = ("examples", "hardware/README.md", "CONTRIBUTING.md")
"""Files and folders of the repository outside docs/ that the site has too."""
OPTIONS = "<!-- options -->"


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
    """Point links out of docs/ at these files, and put the options of every command where a page asks for them."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def inside(found: re.Match[str]) -> str:
        ups = found["up"].count("../")
        if ups <= depth:
            return found[0]
        return f"{'../' * depth}repository/{found['path'].removesuffix('.md')}.txt"

    markdown = LINK.sub(inside, markdown)
    return markdown.replace(OPTIONS, "\n".join(every_command())) if OPTIONS in markdown else markdown


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
