"""The commands that ask around the answer: frontier, whatif and modes."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    INTERRUPTED,
    AsJson,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    SpecPath,
    errors_told,
    load,
)

if TYPE_CHECKING:
    from servesat.questions.scenarios import Factor
    from servesat.questions.whatif import Question
    from servesat.spec.spec import Spec

Out = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Write a table (.csv, .parquet, .json) or a figure (.html, .svg, .png, .pdf); repeatable."
    ),
]
Axis = Literal[
    "tpot_ms", "usd_per_million_output_tokens", "tokens_per_s_per_chip", "chips", "usd_per_hour", "batch", "ttft_ms"
]


def frontier(
    spec: SpecPath,
    x: Annotated[Axis, typer.Option("--x", help="The first figure to trade.")] = "tpot_ms",
    y: Annotated[Axis, typer.Option("--y", help="The second.")] = "usd_per_million_output_tokens",
    z: Annotated[Axis | None, typer.Option("--z", help="A third.")] = None,
    by: Annotated[
        Literal["chip", "topology"] | None, typer.Option(help="Give each chip, or each slice, its own frontier.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    region: Region = None,
    purchase: Purchase = None,
    overrides: Overrides = None,
) -> None:
    """Find every plan that no other beats in two or three figures at once.

    Exit codes: 0 a frontier, 1 an error, 2 a usage error, 3 infeasible.
    """
    with errors_told():
        outs = _outs(out)
        loaded = load(spec, overrides, price_book=price_book, region=region, purchase=purchase)

        _say_left_out(loaded)

        from servesat.questions.pareto import trace_frontier
        from servesat.report import frontier as report

        found = trace_frontier(loaded, (x, y) if z is None else (x, y, z), by)
        document = report.frontier_document(found)
        if found.points:
            _write_frontier(outs, loaded, found, document)
        for path in out or () if not found.points else ():
            typer.echo(f"note: {path} is not written: the result is {found.status}", err=True)
        if as_json:
            from servesat.report.documents import dumps

            typer.echo(dumps(document))
        else:
            from servesat.report.terminal import console

            report.print_frontier(console(), loaded, found)
    raise typer.Exit(EXIT_CODES[found.status])


def whatif(
    spec: SpecPath,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="slo.tpot_ms=8:40:2, search.weights=int8,int4, price.CHIP=0.6..1.8x13"),
    ] = None,
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="Vary each key alone, not all together.")
    ] = False,
    breakpoints: Annotated[
        str | None, typer.Option(metavar="KEY", help="Find the values of a varied key at which the plan changes.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="10%", help="Ask whether the plan survives errors of step time and HBM use.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Errors drawn for --noise; 1000 if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the errors; 0 if left out.")] = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run of --out that was cut off.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; a short run takes one, a long one one a core.")
    ] = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    region: Region = None,
    purchase: Purchase = None,
    overrides: Overrides = None,
) -> None:
    """Solve a spec again and again with some of its keys, prices, chip or model fields varied.

    Exit codes: 0 every scenario has an answer, 1 an error, 2 a usage error, 3 no plan to try with --noise, 130 cut off.
    """
    with errors_told():
        outs = _outs(out)
        factors = _factors(vary)
        if (noise is None) == (not factors):
            raise typer.BadParameter("give either --vary KEY=VALUES, or --noise 10%")
        if breakpoints is not None and breakpoints not in {factor.key for factor in factors}:
            raise typer.BadParameter(f"--breakpoints {breakpoints}: give its range, as in --vary {breakpoints}=8:40:2")
        of_scenarios = {"--out": out, "--one-at-a-time": one_at_a_time, "--resume": resume, "--workers": workers}
        if noise is not None or breakpoints is not None:
            _refuse_given(of_scenarios, "goes with scenarios, not with --noise or --breakpoints")
        if noise is None:
            _refuse_given({"--samples": samples, "--seed": seed}, "goes with --noise")
        loaded = load(spec, overrides, price_book=price_book, region=region, purchase=purchase)
        for note in loaded.notes_on([factor.key for factor in factors]):
            typer.echo(f"note: {note}", err=True)
        if noise is not None:
            code = _ask_robustness(loaded, _fraction(noise), samples or 1000, seed or 0, as_json)
        elif breakpoints is not None:
            code = _ask_breakpoints(loaded, factors, breakpoints, as_json)
        else:
            code = _ask_scenarios(loaded, factors, one_at_a_time, outs, workers, resume, as_json)
    raise typer.Exit(code)


def modes(
    spec: SpecPath,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the modes over the ratio of prompt to output: .html, .svg, …"),
    ] = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    region: Region = None,
    purchase: Purchase = None,
    overrides: Overrides = None,
) -> None:
    """Compare the serving modes: the best plan of each for one workload.

    Exit codes: 0 some mode has a plan, 1 an error, 2 a usage error, 3 none has.
    """
    with errors_told():
        outs = _outs([out] if out is not None else None)
        if outs.tables:
            raise typer.BadParameter(f"--out {out}: expected a figure; --json prints the table")
        loaded = load(spec, overrides, price_book=price_book, region=region, purchase=purchase)

        from servesat.questions.mode_comparison import compare_modes, crossover
        from servesat.report import modes as report

        found = compare_modes(loaded)
        if out is not None:
            from servesat.report.charts import draw

            draw(report.crossover_chart(loaded, crossover(loaded)), out)
            _say_written(outs)
        if as_json:
            from servesat.report.documents import dumps

            typer.echo(dumps(report.modes_document(found)))
        else:
            from servesat.report.terminal import console

            report.print_modes(console(), loaded, found)
    raise typer.Exit(0 if any(result.plan is not None for result in found.values()) else 3)


class _Outs:
    """Files to write, by what they hold."""

    def __init__(self, tables: list[Path], figures: list[Path]) -> None:
        self.tables, self.figures = tables, figures


def _outs(paths: list[Path] | None) -> _Outs:
    from servesat.report.charts import FIGURES
    from servesat.report.files import TABLES

    for path in paths or []:
        if path.is_dir():
            raise typer.BadParameter(f"--out {path}: is a folder, expected a file")
        if (paths or []).count(path) > 1:
            raise typer.BadParameter(f"--out {path}: is given twice")
        if path.suffix not in (*TABLES, *FIGURES):
            raise typer.BadParameter(f"--out {path}: expected a file that ends in {', '.join((*TABLES, *FIGURES))}")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"--out {path}: there is no folder {path.parent}")
    return _Outs(
        [path for path in paths or [] if path.suffix in TABLES],
        [path for path in paths or [] if path.suffix in FIGURES],
    )


def _refuse_given(options: dict[str, Any], why: str) -> None:
    for name, value in options.items():
        if value not in (None, False):
            raise typer.BadParameter(f"{name} {why}")


def _factors(texts: list[str] | None) -> "list[Factor]":
    from servesat.core.errors import SpecError
    from servesat.questions.scenarios import parse_factor

    try:
        return [parse_factor(text) for text in texts or []]
    except SpecError as fault:
        raise typer.BadParameter(str(fault)) from None


def _fraction(text: str) -> float:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f"--noise {text}: expected a share, as in 10% or 0.1") from None


def _write_frontier(outs: _Outs, spec: "Spec", found: Any, document: dict[str, Any]) -> None:
    from servesat.questions.whatif import FLAT_PLAN, flat_plan
    from servesat.report.charts import draw
    from servesat.report.files import write_table
    from servesat.report.frontier import frontier_chart

    head = {key: value for key, value in document.items() if key != "points"}
    for path in outs.tables:
        write_table(path, document["points"], columns=FLAT_PLAN, flatten=flat_plan, head=head, under="points")
    for path in outs.figures:
        draw(frontier_chart(spec, found), path)
    _say_written(outs)


def _say_left_out(spec: "Spec") -> None:
    if len(spec.in_one_pool().modes) < len(spec.modes):
        typer.echo("note: disaggregated plans are left out: pairs of pools are too many to compare here", err=True)


def _say_written(outs: _Outs) -> None:
    for path in (*outs.tables, *outs.figures):
        typer.echo(f"wrote {path}", err=True)


def _ask_scenarios(
    base: "Spec",
    factors: "list[Factor]",
    one_at_a_time: bool,
    outs: _Outs,
    workers: int | None,
    resume: bool,
    as_json: bool,
) -> int:
    from servesat.core.journal import Journal, Memory, collect
    from servesat.core.parallel import workers_for
    from servesat.questions.scenarios import scenarios
    from servesat.questions.whatif import Question
    from servesat.report.progress import progress
    from servesat.report.whatif_figures import refuse_undrawable

    if resume and not outs.tables:
        raise typer.BadParameter("--resume: give the --out of the run that was cut off")
    question = Question(base, scenarios(base, factors, one_at_a_time=one_at_a_time))
    if outs.figures:
        refuse_undrawable(question)
    with closing(Journal(outs.tables[0], question.identity, resume=resume) if outs.tables else Memory()) as store:
        if resume and not store.done:
            typer.echo(f"note: there is nothing to go on with beside {outs.tables[0]}; starting anew", err=True)
        left = range(store.done, len(question.scenarios))
        with progress("scenarios", len(question.scenarios), store.done) as on_progress:
            complete = collect(question.rows(left, workers or workers_for(len(left))), store, on_progress)
        if not complete:
            where = f"{store.path} keeps them for --resume" if isinstance(store, Journal) else "they are below"
            typer.echo(f"cut off: {store.done:,} of {len(question.scenarios):,} scenarios are done; {where}", err=True)
        if complete or isinstance(store, Memory):
            _report_scenarios(question, store, outs if complete else _Outs([], []), as_json)
        refused = _say_refused(store)
        if complete and isinstance(store, Journal):
            store.remove()
    return (1 if refused else 0) if complete else INTERRUPTED


def _report_scenarios(question: "Question", store: Any, outs: _Outs, as_json: bool) -> None:
    from servesat.questions.whatif import flat, flat_types
    from servesat.report.charts import draw
    from servesat.report.files import json_lines, write_table
    from servesat.report.tornado import draw_tornado
    from servesat.report.whatif import base_document, print_scenarios
    from servesat.report.whatif_figures import cost_chart, tornado_of

    types, head = flat_types(question.scenarios), base_document(question)
    for path in outs.tables:
        write_table(path, store.rows(), columns=types, flatten=lambda row: flat(row, types), head=head, under="rows")
    if as_json:
        for line in json_lines(store.rows(), head, under="rows"):
            typer.echo(line)
    else:
        from servesat.report.terminal import console

        print_scenarios(console(), question, store.rows(), store.done)
    for path in outs.figures:
        if question.scenarios.one_at_a_time:
            draw_tornado(tornado_of(question, store.rows()), path)
        else:
            draw(cost_chart(question, store.rows()), path)
    _say_written(outs)


def _say_refused(store: Any, most: int = 5) -> int:
    """Name the first scenarios that the schema refused; return how many there are."""
    refused = 0
    for row in store.rows():
        if row["error"] is not None:
            refused += 1
            if refused <= most:
                typer.echo(f"error: scenario {row['scenario']}: {row['error']}", err=True)
    if refused > most:
        typer.echo(f"error: {refused - most:,} more scenarios were refused", err=True)
    return refused


def _ask_breakpoints(base: "Spec", factors: "list[Factor]", key: str, as_json: bool) -> int:
    from servesat.questions.breakpoints import find_breakpoints
    from servesat.report.whatif import breakpoints_document, print_breakpoints

    values = next(factor.values for factor in factors if factor.key == key)
    if len(factors) > 1:
        raise typer.BadParameter("--breakpoints: vary its key alone; fix others with --set")
    found = find_breakpoints(base, key, values)
    if as_json:
        from servesat.report.documents import dumps

        typer.echo(dumps(breakpoints_document(key, found)))
    else:
        from servesat.report.terminal import console

        print_breakpoints(console(), key, values, found)
    return 0


def _ask_robustness(base: "Spec", noise: float, samples: int, seed: int, as_json: bool) -> int:
    from servesat.questions.robustness import assess_robustness
    from servesat.report.progress import progress
    from servesat.report.whatif import print_robustness, robustness_document

    _say_left_out(base)
    with progress("samples", samples) as on_progress:
        found = assess_robustness(base, noise, samples=samples, seed=seed, on_progress=on_progress)
    if as_json:
        from servesat.report.documents import dumps

        typer.echo(dumps(robustness_document(found)))
    else:
        from servesat.report.terminal import console

        print_robustness(console(), found)
    return EXIT_CODES[found.result.status]
