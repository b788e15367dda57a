"""What it means to meet a requirement, and to tie: the tolerances, and a bit for each requirement."""

import numpy as np
import numpy.typing as npt

from servesat.core.result import Requirement

TOLERANCE = 1e-9
"""A limit met within this relative error is met: 15 ms is not missed by the rounding of a float."""

TIE = 1e-6
"""Plans within this relative cost of the cheapest tie with it."""

Bits = npt.NDArray[np.uint16]
BIT = {requirement: np.uint16(1 << position) for position, requirement in enumerate(Requirement)}
"""The bit of each requirement in a violation mask."""
