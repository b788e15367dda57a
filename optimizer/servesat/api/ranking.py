"""Every chip for one model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from servesat.api.answer import Drawn
from servesat.api.tables import frame, plan_row
from servesat.catalogue.load import chip_ids, load_model
from servesat.questions.chip_ranking import RankedChip, ranked_chips
from servesat.questions.whatif import FLAT_PLAN
from servesat.report.ranking import print_ranking, rank_chart, rank_document
from servesat.report.terminal import Terminal
from servesat.report.tornado import Tornado
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

MERITS: Mapping[str, type] = {
    "usd_per_chip_hour": float,
    "flop_per_s": float,
    "hbm_bytes": float,
    "hbm_bytes_per_s": float,
    "flop_per_usd": float,
    "hbm_traffic_bytes_per_usd": float,
    "hbm_byte_hours_per_usd": float,
    "critical_batch": float,
    "alpha": float,
    "beta": float,
    "smallest_slice": str,
}
"""What a chip is rated by, beside its best plan."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Ranking(Drawn):
    """The chips by the cost of their best plan, at the peaks of the hardware."""

    question: Mapping[str, Any]
    chips: Sequence[RankedChip]

    @property
    def spec(self) -> Spec:
        """The question as a spec."""
        return Spec.load(self.question)

    @property
    def notes(self) -> tuple[str, ...]:
        """The chips of the catalogue that nobody rents at these prices."""
        unpriced = sorted({*chip_ids()} - {ranked.chip for ranked in self.chips})
        book = self.spec.price_book.id
        more = "" if book == "all" else "; `--price-book all` has every offer"
        return (f"chips without a price in {book} are left out: {', '.join(unpriced)}{more}",) if unpriced else ()

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each chip, the cheapest first, those without a plan last."""
        rows = [{**plan_row(ranked.plan), **asdict(ranked)} for ranked in self.chips]
        return frame(rows, {"chip": str, **MERITS, **FLAT_PLAN})

    def show(self, terminal: Terminal) -> None:
        """Print what a dollar buys of each chip, where it binds, and its best plan."""
        print_ranking(terminal, self.spec, self.chips)

    def _document(self) -> dict[str, Any]:
        return rank_document(self.spec, self.chips)

    def _picture(self) -> Tornado:
        return rank_chart(self.question, self.chips)


def rank(
    model: str | Path,
    *,
    context_tokens: int = 8192,
    tpot_ms: float | None = None,
    weights: str | None = None,
    kv_cache: str = "int8",
    compute: str = "bf16",
    price: Mapping[str, float] | None = None,
    price_book: str | None = None,
    cloud: str | list[str] | None = None,
    region: str | list[str] | None = None,
    purchase: str | list[str] | None = None,
    buy: Literal["share", "instances"] | None = None,
) -> Ranking:
    """Rank every chip with a price for a model, under the ideal cost model.

    `price` has dollars a chip-hour by chip, in place of the price book's. The weights are in the dtype in which the
    model is published, unless stated, else int8. Raises SpecError.
    """
    native = load_model(model).native
    prices = {
        "price": price,
        "price_book": price_book,
        "cloud": cloud,
        "region": region,
        "purchase": purchase,
        "buy": buy,
    }
    question = {
        "cost_model": "ideal",
        "model": model,
        "workload": {"context_tokens": context_tokens},
        "slo": {} if tpot_ms is None else {"tpot_ms": tpot_ms},
        "search": {
            "weights": [weights or (native.dtype if native else "int8")],
            "kv_cache": [kv_cache],
            "compute": [compute],
        },
        **{key: value for key, value in prices.items() if value is not None},
    }
    return Ranking(question=question, chips=ranked_chips(question))
