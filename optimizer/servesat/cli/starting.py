"""The command `servesat init`."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from servesat.cli.common import tell
from servesat.cli.completion import complete_model, complete_spec


def init(
    file: Annotated[Path, typer.Argument(help="The spec to write.", autocompletion=complete_spec)] = Path("spec.yaml"),
    model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A model's id, or the path of a file.", autocompletion=complete_model),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="P,G", help="Tokens of a request: of the prompt, and of the answer.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="R", help="Requests a second; none: the cost at full load.")
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(metavar="T,P", help="Limits in ms: to the first token, and for each after it; none: no limit."),
    ] = None,
    cloud: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Where it may be rented: aws, or aws,gcp; any: anywhere.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; what no option says is by default.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a spec to start from, with comments: from the answers to five questions, or from options in their place."""
    from servesat.core.errors import ServesatError, SpecError
    from servesat.core.reading import parse_yaml
    from servesat.core.writing import write_text
    from servesat.spec.spec import Spec
    from servesat.spec.template import Beginnings, spec_template

    if file.suffix not in {".yaml", ".yml"}:
        raise ServesatError(f"{file}: a spec ends in .yaml")
    if file.exists() and not force:
        raise ServesatError(f"{file}: is there already; --force writes over it")
    options = {"model": model, "tokens": tokens, "rate": rate, "limits": limits, "cloud": cloud}
    answers = {option: _answer(option, given, asks=not yes) for option, given in options.items()}
    prompt, output = answers["tokens"]
    ttft, tpot = answers["limits"]
    text = spec_template(
        Beginnings(
            model=_seen_from(file.parent, answers["model"]),
            prompt_tokens=prompt,
            output_tokens=output,
            requests_per_s=answers["rate"],
            ttft_ms=ttft,
            tpot_ms=tpot,
            clouds=answers["cloud"],
        )
    )
    keys: Any = parse_yaml(text, str(file), SpecError)
    Spec.load(keys, folder=file.parent)
    write_text(file, text)
    tell(f"wrote {file}; next: servesat solve {file}")


def _answer(option: str, given: str | None, *, asks: bool) -> Any:
    """What an option says, or else the user if asked, or the default."""
    question, default, read = QUESTIONS[option]
    if given is None:
        return _asked(question, default, read) if asks else read(default)
    try:
        return read(given.strip())
    except ValueError as fault:
        raise typer.BadParameter(f"--{option} {given}: {fault}") from None


def _asked(question: str, default: str, read: Callable[[str], Any]) -> Any:
    """What the user answers, or the default; asked again while it is wrong."""
    from servesat.core.errors import ServesatError

    while True:
        typer.echo(f"{question} [{default}]: ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            raise ServesatError("standard input ended before every question had an answer; --yes asks none")
        try:
            return read(line.strip() or default)
        except ValueError as fault:
            tell(f"  {fault}")


def _model(text: str) -> str:
    from servesat.catalogue.load import load_model
    from servesat.core.errors import CatalogueError

    try:
        load_model(text)
    except CatalogueError as fault:
        raise ValueError(str(fault)) from None
    return text


def _seen_from(folder: Path, reference: str) -> str:
    """A reference to a model, a path of it relative to the folder of the spec."""
    if not Path(reference).exists() or Path(reference).is_absolute():
        return reference
    return Path(os.path.relpath(reference, folder)).as_posix()


def _tokens(text: str) -> tuple[int, int]:
    words = _words(text)
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise ValueError("expected two whole numbers, of the prompt and of the answer, as 2000,300")
    return int(words[0]), int(words[1])


def _limits(text: str) -> tuple[float | None, float | None]:
    words = _words(text)
    if words == ["none"]:
        return None, None
    if len(words) != 2:
        raise ValueError("expected two limits, to the first token and for each after it, as 500,40 or none,40; or none")
    return _number(words[0]), _number(words[1])


def _number(text: str) -> float | None:
    try:
        number = None if text == "none" else float(text)
    except ValueError:
        number = 0.0
    if number is not None and not 0 < number < float("inf"):
        raise ValueError(f"{text}: expected a number greater than 0, or none")
    return number


def _clouds(text: str) -> tuple[str, ...]:
    from servesat.catalogue.load import every_offer
    from servesat.core.validation import nearest

    words = _words(text)
    if words == ["any"]:
        return ()
    if not words:
        raise ValueError("expected names of clouds, as aws,gcp, or any")
    known = every_offer().clouds
    for word in words:
        if word not in known:
            raise ValueError(f"{word}: no such cloud; {nearest(word, known)}")
    return tuple(dict.fromkeys(words))


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


QUESTIONS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "model": ("Model: an id of `servesat models`, or a path", "qwen3-32b", _model),
    "tokens": ("Tokens of a request: prompt, answer", "2000,300", _tokens),
    "rate": ("Requests a second; none: the cost at full load", "20", _number),
    "limits": ("Limits in ms: first token, each after it; none: no limit", "500,40", _limits),
    "cloud": ("Clouds where it may be rented", "any", _clouds),
}
"""Each option's question, default, and how an answer is read."""
