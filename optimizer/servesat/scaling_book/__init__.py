"""The scaling book's serving chapter, and four documents about it: what they print, and what servesat computes.

Every printed figure is a claim in `claims.csv`; `claims.claims` answers each through the catalogue, the cost model and
the solver. Where a document rounds an input, the answer uses its rounding, and the remark says what the exact input
gives.
"""
