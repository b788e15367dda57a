"""The command `servesat whatif`: scenarios, breakpoints and robustness."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    INTERRUPTED,
    AsJson,
    BuyHow,
    Cloud,
    Constraints,
    EngineName,
    On,
    Overrides,
    PriceBookName,
    Processes,
    Purchase,
    Region,
    SpecPath,
    Wide,
    connect_to,
    console,
    load,
    print_answer,
    tell,
)
from servesat.cli.completion import complete_key, complete_setting
from servesat.cli.outputs import Out, Outputs, parse_outputs

if TYPE_CHECKING:
    from servesat.core.journal import Journal, Memory
    from servesat.questions.scenarios import Factor
    from servesat.questions.whatif import Question
    from servesat.spec.spec import Spec

MAX_REFUSALS = 5
"""Refused scenarios that are named."""


Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUES",
        help="slo.tpot_ms=8:40:2, search.weights=int8,int4, price.CHIP=0.6..1.8x13",
        autocompletion=complete_setting,
    ),
]
OneAtATime = Annotated[bool, typer.Option("--one-at-a-time", help="Vary each key alone, not all together.")]
Breakpoints = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Find the values of a varied key at which the plan changes.", autocompletion=complete_key
    ),
]
Noise = Annotated[
    str | None,
    typer.Option(
        metavar="10%",
        help="Ask whether the plan survives errors of step time and HBM use; calibrated: those of predictions.",
    ),
]
Samples = Annotated[int | None, typer.Option(min=1, max=10**6, help="Errors drawn for --noise; default: 1000.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the errors; default: 0.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run of --out that was cut off.")]


def whatif(
    spec: SpecPath,
    vary: Vary = None,
    one_at_a_time: OneAtATime = False,
    breakpoints: Breakpoints = None,
    noise: Noise = None,
    samples: Samples = None,
    seed: Seed = None,
    out: Out = None,
    resume: Resume = False,
    workers: Processes = None,
    on: On = None,
    as_json: AsJson = False,
    wide: Wide = False,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    engine: EngineName = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
) -> None:
    """Solve a spec again and again with some of its keys, prices, chip or model fields varied.

    Exit codes: 0 every scenario has an answer, 1 an error, 2 a usage error, 3 no plan to try with --noise, 130 cut off.
    """
    outputs = parse_outputs(out, given=spec)
    factors = _factors(vary, noise, breakpoints)
    if noise is not None or breakpoints is not None:
        of_scenarios = {"--out": out, "--one-at-a-time": one_at_a_time, "--resume": resume}
        _refuse(
            {**of_scenarios, "--workers": workers, "--on": on}, "goes with scenarios, not with --noise or --breakpoints"
        )
    if noise is None:
        _refuse({"--samples": samples, "--seed": seed}, "goes with --noise")
    loaded = load(
        spec,
        overrides,
        constraints,
        price_book=price_book,
        cloud=cloud,
        region=region,
        purchase=purchase,
        buy=buy,
        engine=engine,
        in_means=noise is not None or breakpoints is not None,
    )
    for note in loaded.notes_on_scenarios([factor.key for factor in factors]):
        tell(f"note: {note}")
    if noise is not None:
        code = _assess_robustness(loaded, _share(noise), samples or 1000, seed or 0, as_json)
    elif breakpoints is not None:
        code = _find_breakpoints(loaded, factors, breakpoints, as_json)
    else:
        code = _solve_scenarios(loaded, factors, one_at_a_time, outputs, workers, on, resume, as_json)
    raise typer.Exit(code)


def _factors(texts: list[str] | None, noise: str | None, breakpoints: str | None) -> "list[Factor]":
    """What varies: something, unless errors are asked about, and the key of --breakpoints. Raises BadParameter."""
    from servesat.core.errors import SpecError
    from servesat.questions.scenarios import parse_factor

    if (noise is None) == (not texts):
        raise typer.BadParameter("give either --vary KEY=VALUES, or --noise 10%")
    try:
        factors = [parse_factor(text) for text in texts or []]
    except SpecError as fault:
        raise typer.BadParameter(str(fault)) from None
    if breakpoints is not None and breakpoints not in {factor.key for factor in factors}:
        raise typer.BadParameter(f"--breakpoints {breakpoints}: give its range, as in --vary {breakpoints}=8:40:2")
    return factors


def _share(text: str) -> "float | Literal['calibrated']":
    try:
        if text == "calibrated":
            return "calibrated"
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f"--noise {text}: expected a share, as in 10% or 0.1, or calibrated") from None


def _refuse(options: dict[str, Any], reason: str) -> None:
    for name, value in options.items():
        if value is not None and value is not False:
            raise typer.BadParameter(f"{name} {reason}")


def _solve_scenarios(
    base: "Spec",
    factors: "list[Factor]",
    one_at_a_time: bool,
    outputs: Outputs,
    workers: int | None,
    on: str | None,
    resume: bool,
    as_json: bool,
) -> int:
    from servesat.core.journal import Journal, Memory, collect
    from servesat.core.parallel.runs import Workers
    from servesat.questions.scenarios import make_scenarios
    from servesat.questions.whatif import Question
    from servesat.report.progress import progress
    from servesat.report.whatif_figures import refuse_undrawable

    if resume and not outputs.tables:
        raise typer.BadParameter("--resume: give the --out of the run that was cut off")
    question = Question(base, make_scenarios(base, factors, one_at_a_time=one_at_a_time))
    if outputs.figures:
        refuse_undrawable(question)
    total = len(question.scenarios)
    connect_to(on)
    with closing(Journal(outputs.tables[0], question.identity, resume=resume) if outputs.tables else Memory()) as store:
        if resume and not store.done:
            tell(f"note: there is nothing to go on with next to {outputs.tables[0]}; starting anew")
        pending = range(store.done, total)
        with progress("scenarios", total, store.done) as on_progress:
            complete = collect(question.rows(pending, Workers(workers, on)), store, on_progress)
        if not complete:
            where = f"{store.path} keeps them for --resume" if isinstance(store, Journal) else "they are below"
            tell(f"cut off: {store.done:,} of {total:,} scenarios are done; {where}")
        if complete or isinstance(store, Memory):
            _report_scenarios(question, store, outputs if complete else Outputs(), as_json)
        refused = _report_refused(store)
        if complete and isinstance(store, Journal):
            store.remove()
    return (1 if refused else 0) if complete else INTERRUPTED


def _report_scenarios(question: "Question", store: "Journal | Memory", outputs: Outputs, as_json: bool) -> None:
    from servesat.questions.whatif import flat, flat_types
    from servesat.report.drawing import draw
    from servesat.report.files import json_lines, write_table
    from servesat.report.tornado import draw_tornado
    from servesat.report.whatif import base_document, print_scenarios
    from servesat.report.whatif_figures import cost_chart, tornado_of

    types, head = flat_types(question.scenarios), base_document(question)
    for path in outputs.tables:
        write_table(path, store.rows(), columns=types, flatten=lambda row: flat(row, types), head=head, under="rows")
    if as_json:
        for line in json_lines(store.rows(), head, under="rows"):
            typer.echo(line)
    else:
        print_scenarios(console(), question, store.rows(), store.done)
    if outputs.figures and all(row["plan"] is None for row in store.rows()):
        Outputs(figures=outputs.figures).report_skipped("no scenario has a plan")
        outputs = Outputs(outputs.tables)
    for path in outputs.figures:
        if question.scenarios.one_at_a_time:
            draw_tornado(tornado_of(question, store.rows()), path)
        else:
            draw(cost_chart(question, store.rows()), path)
    outputs.report_written()


def _report_refused(store: "Journal | Memory") -> int:
    """Name the first scenarios that the schema refused; return the number of all of them."""
    refused = 0
    for row in store.rows():
        if row["error"] is not None:
            refused += 1
            if refused <= MAX_REFUSALS:
                tell(f"error: scenario {row['scenario']}: {row['error']}")
    if refused > MAX_REFUSALS:
        tell(f"error: {refused - MAX_REFUSALS:,} more scenarios were refused")
    return refused


def _find_breakpoints(base: "Spec", factors: "list[Factor]", key: str, as_json: bool) -> int:
    from servesat.api import whatif as api

    values = next(factor.values for factor in factors if factor.key == key)
    if len(factors) > 1:
        raise typer.BadParameter("--breakpoints: vary its key alone; fix others with --set")
    print_answer(api.breakpoints(base, key, values), as_json)
    return 0


def _assess_robustness(
    base: "Spec", noise: "float | Literal['calibrated']", samples: int, seed: int, as_json: bool
) -> int:
    from servesat.api import whatif as api
    from servesat.report.progress import progress

    with progress("samples", samples) as on_progress:
        robustness = api.robustness(base, noise, samples=samples, seed=seed, on_progress=on_progress)
    print_answer(robustness, as_json)
    return EXIT_CODES[robustness.result.status]
