"""What API providers charge for the open models of the catalogue (models/api_prices/published.toml)."""

from functools import cache
from typing import Annotated

from pydantic import Field

from servesat.catalogue.load import shelf_of
from servesat.catalogue.record import Sourced, Text
from servesat.core.errors import CatalogueError
from servesat.core.reading import read_toml
from servesat.core.validation import Strict, validate

UsdPerMillion = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]


class ApiPrice(Strict):
    """What a provider charges for a model [$/1M tokens]."""

    provider: Text
    listed_as: Text = Field(description="The provider's name of the model.")
    input: UsdPerMillion
    output: UsdPerMillion
    cached_input: UsdPerMillion | None = Field(default=None, description="Absent: what input costs.")

    def usd_per_request(self, new_tokens: float, cached_tokens: float, output_tokens: float) -> float:
        """The price of a request: (new · input + cached · cached_input + output · output) / 10⁶ [$]."""
        cached = self.input if self.cached_input is None else self.cached_input
        return (new_tokens * self.input + cached_tokens * cached + output_tokens * self.output) / 1e6


class ApiPrices(Sourced):
    """The prices by the id of a model."""

    models: dict[str, tuple[ApiPrice, ...]]


@cache
def published_api_prices() -> ApiPrices:
    """The prices of the catalogue. Raises CatalogueError when their file is malformed."""
    path = shelf_of("models") / "api_prices" / "published.toml"
    return validate(ApiPrices, read_toml(path, CatalogueError), where=str(path), error=CatalogueError)
