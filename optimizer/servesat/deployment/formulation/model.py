"""The constraint model of a deployment: the choice of a column, and the decisions and figures that follow from it."""

import numpy as np

from servesat.candidates.constraints import Values
from servesat.core.arrays import Ints
from servesat.deployment.formulation.cp_sat import cp_model
from servesat.deployment.formulation.instance import Instance
from servesat.spec.expressions import Name, Type


class DeploymentModel:
    """A CP-SAT model in which `column` is the choice, and named variables are looked up of it when first asked for.

    A variable that nothing mentions does not exist: most of a model's size would be theirs. Several deployments share a
    `model` and the codes of `texts`.
    """

    def __init__(
        self, instance: Instance, model: cp_model.CpModel | None = None, texts: dict[str, int] | None = None
    ) -> None:
        self.instance = instance
        self.model = cp_model.CpModel() if model is None else model
        self.column = self.model.new_int_var(0, len(instance) - 1, "column")
        self.literals: dict[str, cp_model.IntVar] = {}
        self._named: dict[tuple[str, bool], cp_model.IntVar] = {}
        self._texts: dict[str, int] = {} if texts is None else texts

    def value(self, name: Name) -> cp_model.IntVar:
        """The number of the chosen column, in its smallest unit, or the code of its text."""
        return self._variable(name, self.codes_of_texts(name) if name.type is Type.TEXT else self._whole(name))

    def place(self, name: Name) -> cp_model.IntVar:
        """The place of the chosen column's number among the distinct ones: small, however large the numbers."""
        key = (name.id, True)
        if key not in self._named:
            places = np.searchsorted(self.distinct(name), self._whole(name))
            self._named[key] = self.looked_up(places, f"place of {name.id}")
        return self._named[key]

    def distinct(self, name: Name) -> Ints:
        """The distinct numbers of the columns, sorted."""
        return np.unique(self._whole(name))

    def codes_of_texts(self, name: Name) -> Ints:
        """The codes of a text of each column, by `code_of`."""
        texts, place = np.unique(self._values().texts(name.id), return_inverse=True)
        return np.array([self.code_of(str(text)) for text in texts], dtype=np.int64)[place.reshape(-1)]

    def code_of(self, text: str) -> int:
        """The code of a text, the same for every name, so that two of them can be compared."""
        return self._texts.setdefault(text, len(self._texts))

    def require(self) -> None:
        """Add every requirement as rows on figures, each under its literal in `literals`."""
        for name, rows in self.instance.rows.items():
            on = self.literals[name] = self.model.new_bool_var(f"on_{name}")
            for row in rows:
                figure = self.looked_up(row.place, name)
                allowed = cp_model.Domain(row.smallest, row.largest)
                self.model.add_linear_expression_in_domain(figure, allowed).only_enforce_if(on)

    def looked_up(self, values: Ints, name: str) -> cp_model.IntVar:
        """A variable equal to `values[column]`.

        One element constraint over an index took a tenth of the time of one boolean a column (28,000 columns: 61 ms
        against 510 ms, docs/notes/measured.md).
        """
        variable = self.model.new_int_var(int(values.min()), int(values.max()), name)
        self.model.add_element(self.column, values.tolist(), variable)
        return variable

    def _variable(self, name: Name, values: Ints) -> cp_model.IntVar:
        key = (name.id, False)
        if key not in self._named:
            self._named[key] = self.looked_up(values, name.id)
        return self._named[key]

    def _whole(self, name: Name) -> Ints:
        return self._values().whole(name)

    def _values(self) -> Values:
        if self.instance.values is None:
            raise TypeError("an instance without columns has no named values")
        return self.instance.values
