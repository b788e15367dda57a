"""The commands of the catalogue: models, chips, engines and schema."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from servesat.cli.common import AsJson, BuyHow, Cloud, PriceBookName, Purchase, Region, Wide, console, print_json, tell
from servesat.cli.outputs import OutFigure, parse_outputs


class Shelf(TyperGroup):
    """A command group: lists a shelf of the catalogue, shows an entry by its id, or runs a subcommand."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Treat a word that is not a subcommand as the id of an entry to show."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


Reference = Annotated[str, typer.Argument(help="An id, or the path of a file.")]
models = typer.Typer(cls=Shelf, invoke_without_command=True, help="List, show, import or write models.")
chips = typer.Typer(cls=Shelf, invoke_without_command=True, help="List, show or rank chips.")
engines = typer.Typer(cls=Shelf, invoke_without_command=True, help="List or show engines.")


@models.callback()
def list_models(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the models of the catalogue; `servesat models MODEL` shows a model."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.report import listings

        print_content(listings.model_rows(), as_json, listings.MODEL_DETAILS)


@models.command("show")
def show_model(context: typer.Context, model: Reference, as_json: AsJson = False, wide: Wide = False) -> None:
    """Show a model."""
    from servesat.report import listings

    entry = listings.model_entry(model)
    if as_json or context.obj:
        print_content(entry, as_json=True)
        return
    tensors = listings.tensor_table(entry.pop("tensors"))
    accuracies = [entry.pop(name) for name in ("accuracy", "accuracy_of_kv_cache")]
    print_content(entry, as_json=False)
    print_content(tensors, as_json=False)
    for rows in accuracies:
        if rows:
            shown = listings.without_columns(rows, "source")
            print_content(shown, as_json=False, details=shown[0])


@models.command("import")
def import_model(
    source: Annotated[str, typer.Argument(help="A config.json, its folder, or the id of a model on the Hub.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the model file: my-model.toml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a Hugging Face config.json into a model file, printed unless --out names a file."""
    from servesat.catalogue.hub import import_model, toml_text
    from servesat.core.errors import ServesatError

    if out is not None and out.suffix != ".toml":
        raise ServesatError(f"{out}: a model file ends in .toml")
    model = import_model(source)
    text = toml_text(model)
    if out is not None:
        from servesat.core.writing import write_text

        write_text(out, text)
        tell(f"wrote {out}")
    if as_json:
        from servesat.report import listings

        print_content(listings.model_document(model), as_json=True)
    elif out is None:
        typer.echo(text, nl=False)


@models.command("new")
def new_model(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the model file: my-model.toml.")] = None,
) -> None:
    """Write a model file to fill in, with every field explained."""
    from servesat.catalogue.template import model_template
    from servesat.core.errors import ServesatError

    if out is None:
        typer.echo(model_template(), nl=False)
        return
    if out.suffix != ".toml":
        raise ServesatError(f"{out}: a model file ends in .toml")
    from servesat.core.writing import write_text

    write_text(out, model_template())
    tell(f"wrote {out}")


@chips.callback()
def list_chips(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the chips of the catalogue; `servesat chips CHIP` shows a chip."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.report import listings

        print_content(listings.chip_rows(), as_json, listings.CHIP_DETAILS)


@chips.command("show")
def show_chip(context: typer.Context, chip: Reference, as_json: AsJson = False) -> None:
    """Show a chip."""
    from servesat.report import listings

    print_content(listings.chip_entry(chip), as_json or context.obj)


@chips.command("rank")
def rank_chips(
    model: Annotated[str, typer.Argument(help="A model's id, or the path of a file.")],
    context_tokens: Annotated[int, typer.Option("--context", min=1, help="Context of a sequence [tokens].")] = 8192,
    tpot: Annotated[float | None, typer.Option(metavar="MS", help="Longest time per output token [ms].")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Dtype of the weights; default: the published dtype, else int8.")
    ] = None,
    kv_cache: Annotated[str, typer.Option(help="Dtype of the KV cache.")] = "int8",
    compute: Annotated[str, typer.Option(help="Dtype of the matmuls.")] = "bf16",
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    out: OutFigure = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Rank every chip with a price for a model: what a dollar buys, where it binds, and its best plan at its peaks."""
    from servesat.catalogue.load import chip_ids, load_model
    from servesat.questions.chip_ranking import ranked_chips
    from servesat.report.charts import FIGURES

    outputs = parse_outputs(out, FIGURES)
    native = load_model(model).native
    weights = weights or (native.dtype if native else "int8")
    prices = {"price_book": price_book, "cloud": cloud, "region": region, "purchase": purchase, "buy": buy}
    question = {
        "cost_model": "ideal",
        "model": model,
        "workload": {"context_tokens": context_tokens},
        "slo": {} if tpot is None else {"tpot_ms": tpot},
        "search": {"weights": [weights], "kv_cache": [kv_cache], "compute": [compute]},
        **{key: value for key, value in prices.items() if value is not None},
    }
    ranked = ranked_chips(question)
    unpriced = sorted({*chip_ids()} - {entry.chip for entry in ranked})
    if unpriced:
        tell(f"note: chips without a price are left out: {', '.join(unpriced)}")
    from servesat.report.ranking import print_ranking, rank_chart, rank_document

    if outputs.figures:
        from servesat.report.tornado import draw_tornado

        for path in outputs.figures:
            draw_tornado(rank_chart(question, ranked), path)
        outputs.report_written()
    if as_json:
        print_content(rank_document(ranked), as_json=True)
    else:
        print_ranking(console(), ranked)


@engines.callback()
def list_engines(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the engines of the catalogue; `servesat engines ENGINE` shows an engine."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.report import listings

        print_content(listings.engine_rows(), as_json, listings.ENGINE_DETAILS)


@engines.command("show")
def show_engine(context: typer.Context, engine: Reference, as_json: AsJson = False, wide: Wide = False) -> None:
    """Show an engine: what it runs on which chips, and what it takes of their memory."""
    from servesat.report import listings

    entry = listings.engine_entry(engine)
    if as_json or context.obj:
        print_content(entry, as_json=True)
        return
    runs = listings.support_rows(engine)
    print_content({key: value for key, value in entry.items() if key != "runs"}, as_json=False)
    print_content(runs, as_json=False, details=("int8", "int4", "mxfp4", "nvfp4", "latent", "indexed"))


def schema(
    kind: Annotated[
        Literal["spec", "fleet", "portfolio", "models", "chips", "prices", "engines"],
        typer.Argument(help="The files described."),
    ],
) -> None:
    """Print the JSON schema of specs, fleets and portfolios, or of the catalogue's files, which you may have too."""
    if kind == "spec":
        from servesat.spec.schema import schema_of
        from servesat.spec.spec import Spec

        print_json(schema_of(Spec, "servesat spec"))
    elif kind == "portfolio":
        from servesat.spec.portfolio import PortfolioSpec
        from servesat.spec.schema import schema_of

        print_json(schema_of(PortfolioSpec, "servesat portfolio"))
    elif kind == "fleet":
        from servesat.fleet.schema import fleet_schema

        print_json(fleet_schema())
    else:
        from servesat.catalogue.load import json_schema

        print_json(json_schema(kind))


def print_content(content: list[dict[str, Any]] | dict[str, Any], as_json: bool, details: Collection[str] = ()) -> None:
    """Print the rows of a table, whose `details` give way on a narrow line, or the fields of an entry."""
    if as_json:
        print_json(content)
        return
    from servesat.report.terminal import print_entry, print_rows

    if isinstance(content, list):
        print_rows(console(), content, details)
    else:
        print_entry(console(), content)
