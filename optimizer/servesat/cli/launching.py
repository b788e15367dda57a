"""The command `servesat launch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    AsJson,
    BuyHow,
    Cloud,
    Constraints,
    EngineName,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    load,
    print_json,
    show,
    tell,
)

if TYPE_CHECKING:
    from servesat.launch.servers import Launch
    from servesat.spec.spec import Spec

Targets = Literal["command", "compose", "kubernetes", "lws", "llm-d", "kserve", "dynamo", "skypilot", "gke-tpu"]


def launch(
    file: Annotated[Path, typer.Argument(help="A spec, a fleet, the --json of solve, or a certificate.")],
    to: Annotated[Targets, typer.Option("--to", help="What starts the plan.")] = "command",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files into a folder, instead of printing them.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The weights to load, in the dtype of the plan.")
    ] = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    engine: EngineName = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
) -> None:
    """Write what starts a plan: command lines or manifests, with a benchmark that says what it should measure.

    Exit codes: 0 written, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    options: dict[str, Any] = {
        "price_book": price_book, "cloud": cloud, "region": region, "purchase": purchase, "buy": buy, "engine": engine
    }  # fmt: skip
    from servesat.launch.reading import kind_of

    kind = kind_of(file)
    if kind != "spec":
        given = [name for name, value in {**options, "set": overrides, "constraint": constraints}.items() if value]
        if given:
            raise typer.BadParameter(f"--{given[0].replace('_', '-')} changes a spec, and {file} is a {kind}")
        launches = _of_result(file, checkpoint) if kind == "result" else _of_fleet(file, checkpoint)
    else:
        spec = load(file, overrides, constraints, **options)
        if not spec.engine and engine is None:
            tell("note: the spec names no engine: any of the catalogue is searched")
            spec = spec.changed({"engine": "any"})
        launches = _of_spec(spec, checkpoint)
    _write(launches, to, out, as_json)


def _of_spec(spec: "Spec", checkpoint: str | None) -> "list[Launch]":
    from servesat.deployment.solve import solve
    from servesat.launch.reading import proof_of
    from servesat.launch.servers import launch_of

    result = solve(spec)
    if result.plan is None:
        tell(f"{result.status}: no plan to start; servesat solve says why")
        raise typer.Exit(EXIT_CODES[result.status])
    return [
        launch_of(
            spec,
            result.plan,
            proof=proof_of(result.status, replayed=result.replayed is not None),
            checkpoint=checkpoint,
        )
    ]


def _of_result(file: Path, checkpoint: str | None) -> "list[Launch]":
    from servesat.launch.reading import result_launch

    return [result_launch(file, checkpoint)]


def _of_fleet(file: Path, checkpoint: str | None) -> "list[Launch]":
    from servesat.fleet.plan import plan_fleet
    from servesat.fleet.spec import FleetSpec
    from servesat.launch.reading import fleet_launches
    from servesat.report.progress import doing

    if checkpoint is not None:
        raise typer.BadParameter("--checkpoint names the weights of one model, and a fleet has several")
    fleet = FleetSpec.load(file)
    with doing() as on_progress:
        result = plan_fleet(fleet, on_progress=on_progress)
    if EXIT_CODES[result.status]:
        tell(f"{result.status}: no fleet to start; servesat fleet says why")
        raise typer.Exit(EXIT_CODES[result.status])
    return list(fleet_launches(fleet, result))


def _write(launches: "list[Launch]", to: str, out: Path | None, as_json: bool) -> None:
    """Print the files, or write them; those of several launches into a folder each."""
    from servesat.launch.targets import written

    files: dict[str, str] = {}
    for one in launches:
        folder = f"{one.name}/" if len(launches) > 1 else ""
        files |= {f"{folder}{name}": text for name, text in written(one, to).items()}
    if out is not None:
        from servesat.core.writing import make_folder, write_text

        for name, text in files.items():
            path = out / name
            make_folder(path.parent)
            write_text(path, text)
            if path.suffix == ".sh":
                path.chmod(0o755)
            tell(f"wrote {path}")
    if as_json:
        print_json({"to": to, "files": files})
    elif out is None:
        for name, text in files.items():
            show(f"# ==> {name} <==")
            typer.echo(text)
