"""The commands of the catalogue: models, chips, engines and schema."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from servesat.cli.common import (
    AsJson,
    BuyHow,
    Cloud,
    PriceBookName,
    Purchase,
    Region,
    Wide,
    listed,
    print_answer,
    print_json,
    tell,
)
from servesat.cli.completion import (
    complete_book,
    complete_chip,
    complete_chip_price,
    complete_dtype,
    complete_engine,
    complete_model,
)
from servesat.cli.outputs import OutFigure, parse_outputs, require_toml


class Shelf(TyperGroup):
    """A command group: lists a shelf of the catalogue, shows an entry by its id, or runs a subcommand."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Treat a word that is not a subcommand as the id of an entry to show."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the ids of entries beside the subcommands."""
        commands = super().shell_complete(ctx, "")
        ids = map(type(commands[0]), IDS[str(self.name)](incomplete))
        return [*super().shell_complete(ctx, incomplete), *ids]


IDS = {"models": complete_model, "chips": complete_chip, "engines": complete_engine, "prices": complete_book}
ModelId = Annotated[str, typer.Argument(help="An id, or the path of a file.", autocompletion=complete_model)]
ChipId = Annotated[str, typer.Argument(help="An id, or the path of a file.", autocompletion=complete_chip)]
EngineId = Annotated[str, typer.Argument(help="An id, or the path of a file.", autocompletion=complete_engine)]
BookId = Annotated[str, typer.Argument(help="An id, or the path of a file.", autocompletion=complete_book)]
models = typer.Typer(cls=Shelf, invoke_without_command=True, help="List, show, import or write models.")
chips = typer.Typer(cls=Shelf, invoke_without_command=True, help="List, show or rank chips.")
engines = typer.Typer(cls=Shelf, invoke_without_command=True, help="List or show engines.")


@models.callback()
def list_models(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the models of the catalogue; `servesat models MODEL` shows a model."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.api import catalogue as api

        print_answer(api.models(), as_json)


@models.command("show")
def show_model(context: typer.Context, model: ModelId, as_json: AsJson = False, wide: Wide = False) -> None:
    """Show a model."""
    from servesat.api import catalogue as api

    print_answer(api.models(model), as_json or context.obj)


@models.command("import")
def import_model(
    source: Annotated[str, typer.Argument(help="A config.json, its folder, or the id of a model on the Hub.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the model file: my-model.toml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a Hugging Face config.json into a model file, printed unless --out names a file."""
    from servesat.catalogue.hub import import_model, toml_text

    if out is not None:
        require_toml(out, "a model file")
    model = import_model(source)
    if "vision_parameters" in model.sources:
        tell(f"note: vision_parameters: {model.sources['vision_parameters']}")
    text = toml_text(model)
    if out is not None:
        from servesat.core.writing import write_text

        write_text(out, text)
        tell(f"wrote {out}")
    if as_json:
        from servesat.report import listings

        print_json(listings.model_document(model))
    elif out is None:
        typer.echo(text, nl=False)


@models.command("new")
def new_model(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the model file: my-model.toml.")] = None,
) -> None:
    """Write a model file to fill in, with every field explained."""
    from servesat.catalogue.template import model_template

    if out is None:
        typer.echo(model_template(), nl=False)
        return
    require_toml(out, "a model file")
    from servesat.core.writing import write_text

    write_text(out, model_template())
    tell(f"wrote {out}")


@chips.callback()
def list_chips(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the chips of the catalogue; `servesat chips CHIP` shows a chip."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.api import catalogue as api

        print_answer(api.chips(), as_json)


@chips.command("show")
def show_chip(context: typer.Context, chip: ChipId, as_json: AsJson = False) -> None:
    """Show a chip."""
    from servesat.api import catalogue as api

    print_answer(api.chips(chip), as_json or context.obj)


@chips.command("rank")
def rank_chips(
    model: ModelId,
    context_tokens: Annotated[int, typer.Option("--context", min=1, help="Context of a sequence [tokens].")] = 8192,
    tpot: Annotated[float | None, typer.Option(metavar="MS", help="Longest time per output token [ms].")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Dtype of the weights; default: the published dtype, else int8.", autocompletion=complete_dtype
        ),
    ] = None,
    kv_cache: Annotated[str, typer.Option(help="Dtype of the KV cache.", autocompletion=complete_dtype)] = "int8",
    compute: Annotated[str, typer.Option(help="Dtype of the matmuls.", autocompletion=complete_dtype)] = "bf16",
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHIP=USD",
            help="Dollars a chip-hour, in place of the price book's; repeatable.",
            autocompletion=complete_chip_price,
        ),
    ] = None,
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
    from servesat.api import ranking as api
    from servesat.report.drawing import FIGURES

    outputs = parse_outputs(out, FIGURES)
    ranking = api.rank(
        model,
        context_tokens=context_tokens,
        tpot_ms=tpot,
        weights=weights,
        kv_cache=kv_cache,
        compute=compute,
        price=dict(map(_price, price or [])),
        price_book=price_book,
        cloud=listed(cloud),
        region=listed(region),
        purchase=listed(purchase),
        buy=buy,
    )
    for note in ranking.notes:
        tell(f"note: {note}")
    for path in outputs.figures:
        ranking.draw(path)
    outputs.report_written()
    print_answer(ranking, as_json)


def _price(text: str) -> tuple[str, float]:
    """A chip and its price. Raises typer.BadParameter."""
    chip, _, usd = text.rpartition("=")
    try:
        if chip:
            return chip, float(usd)
    except ValueError:
        pass
    raise typer.BadParameter(f"--price {text}: expected CHIP=USD, as in h100-sxm=2.50")


@engines.callback()
def list_engines(context: typer.Context, as_json: AsJson = False, wide: Wide = False) -> None:
    """List the engines of the catalogue; `servesat engines ENGINE` shows an engine."""
    context.obj = as_json
    if context.invoked_subcommand is None:
        from servesat.api import catalogue as api

        print_answer(api.engines(), as_json)


@engines.command("show")
def show_engine(context: typer.Context, engine: EngineId, as_json: AsJson = False, wide: Wide = False) -> None:
    """Show an engine: what it runs on which chips, and what it takes of their memory."""
    from servesat.api import catalogue as api

    print_answer(api.engines(engine), as_json or context.obj)


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
