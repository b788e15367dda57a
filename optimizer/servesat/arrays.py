"""The kinds of numbers that the cost model takes and gives: one, or one for each layout or column."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Array = Floats | np.float64 | float
"""A quantity: a number, or an array of one shape over layouts or columns."""
