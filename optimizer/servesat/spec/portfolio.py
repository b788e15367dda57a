"""A portfolio: several deployments with their demand, decided together."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from servesat.catalogue.load import chip_ids
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.reading import read_mapping
from servesat.core.validation import Count, Positive, Strict, nearest, refuse_unknown, shorten, validate
from servesat.spec.expression_parser import parse
from servesat.spec.expressions import NAMES, Expression, ExpressionError, Name
from servesat.spec.keys import Constraints
from servesat.spec.search_space import as_list, without_duplicates
from servesat.spec.spec import Spec

Shared = Literal[
    "chip", "cloud", "region", "purchase", "topology", "weights", "kv_cache", "compute", "mode", "tp", "ep", "pp"
]


def _as_constraints_name_it(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("expected letters, digits and _, and no digit first, as constraints name it")
    return name


DeploymentName = Annotated[str, Field(max_length=100), AfterValidator(_as_constraints_name_it)]


class PortfolioSpec(Strict):
    """Deployments that share decisions and limits. `PortfolioSpec.load` reads it from a file or a mapping."""

    deployments: Annotated[dict[DeploymentName, Spec], Field(min_length=1, max_length=200)] = Field(
        description="Deployments by name, each a mapping or the path of a file, with `workload.requests_per_s`."
    )
    shared: Annotated[
        tuple[Shared, ...], Field(max_length=20), AfterValidator(without_duplicates), BeforeValidator(as_list)
    ] = Field(default=(), description="Decisions that are the same for all deployments.")
    max_chip_types: Count | None = Field(default=None, description="Most types of chips of all deployments together.")
    max_chips: Count | None = Field(default=None, description="Most chips of all deployments together.")
    max_usd_per_hour: Positive | None = Field(default=None, description="Largest bill of all deployments together.")
    quota: Annotated[
        dict[str, Annotated[int, Field(strict=True, ge=0, le=10**9)]],
        Field(max_length=1000, description="Most chips of a type, of all deployments together."),
    ] = {}
    constraints: Constraints = Field(
        default=(), description="Conditions on several deployments, as in `chat.tp == code.tp`; docs/constraints.md."
    )

    @classmethod
    def load(cls, source: "PortfolioSpec | Mapping[str, Any] | str | Path") -> "PortfolioSpec":
        """Read a portfolio from a YAML file or a mapping. Paths are relative to the file. Raises SpecError."""
        if isinstance(source, PortfolioSpec):
            return source
        data, where, folder = read_mapping(source, "portfolio", cls.model_fields, SpecError)
        for key, kind, command in (("model", "deployment", "solve"), ("workloads", "fleet", "fleet")):
            if key in data and "deployments" not in data:
                raise SpecError(
                    f"{where}: is a {kind}, as it has a key {key}; expected a portfolio: try `servesat {command}`"
                )
        refuse_unknown(cls, data, where=where, error=SpecError)
        given = data.get("deployments")
        if isinstance(given, Mapping):
            deployments = {
                name: _deployment(spec, folder, f"{where}: deployments.{name}") for name, spec in given.items()
            }
            data = {**data, "deployments": deployments}
        return validate(cls, data, where=where, error=SpecError)

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {*chip_ids(), *(chip.id for spec in self.deployments.values() for chip in spec.chips)}
        for chip in self.quota:
            if chip not in known:
                raise ValueError(f"quota.{chip}: no such chip; {nearest(chip, known)}")
        _ = self.expressions
        return self

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """The constraints, parsed. Raises ValueError for one that cannot be."""
        texts = {text for spec in self.deployments.values() for text in spec.constrainable_texts}
        parsed = []
        for position, text in enumerate(self.constraints):
            try:
                expression = parse(text, texts, self.names)
            except ExpressionError as fault:
                raise ValueError(f"constraints.{position} = {shorten(text)}: {fault}") from None
            if expression.keys:
                hint = f"expected a deployment's, as {next(iter(self.deployments))}.chip"
                raise ValueError(f"constraints.{position} = {shorten(text)}: names {expression.keys[0]}; {hint}")
            parsed.append(expression)
        return tuple(parsed)

    @cached_property
    def names(self) -> dict[str, Name]:
        """What a constraint may name: what a plan has, of each deployment."""
        return {
            f"{deployment}.{name.id}": replace(name, id=f"{deployment}.{name.id}")
            for deployment in self.deployments
            for name in NAMES.values()
        }


def owner_of(name: Name) -> tuple[str, Name]:
    """The deployment of a name, and the name in it."""
    deployment, _, own = name.id.partition(".")
    return deployment, NAMES[own]


def shared_names(portfolio: PortfolioSpec) -> tuple[Name, ...]:
    """The decisions that are the same for all deployments."""
    return tuple(NAMES[shared] for shared in portfolio.shared)


def _deployment(given: Any, folder: Path, key: str) -> Spec:
    """A deployment with a demand. Raises SpecError."""
    if isinstance(given, Spec):
        spec = given
    elif isinstance(given, Mapping | str):
        try:
            spec = Spec.load(folder / given if isinstance(given, str) else given, folder=folder)
        except SpecError as fault:
            raise SpecError("\n".join(f"{key}: {line}" for line in str(fault).splitlines())) from None
    else:
        raise SpecError(f"{key} = {shorten(given)}: expected a deployment spec, as a mapping or the path of a file")
    if spec.workload.requests_per_s is None:
        raise SpecError(f"{key}.workload.requests_per_s is missing: the bill of a portfolio follows from the demand")
    if spec.modes == (Mode.DISAGGREGATED,):
        raise SpecError(f"{key}.search.modes: disaggregated alone, but portfolios compare plans of one pool only")
    return spec
