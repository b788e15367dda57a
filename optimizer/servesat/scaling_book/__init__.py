"""The scaling book's serving chapter and four documents about it: their figures, recomputed by servesat.

Every printed figure is a claim in `claims.csv`; `claims.claims` recomputes it with the catalogue, the cost model and
the solver. Where a document rounds an input, so does the answer, and the remark gives the result of the exact input.
"""
