"""What a valid plan is, without a solver: every figure and every margin derived a second time.

`replica` is the cost model again, in plain scalar Python; `plan.rederive` puts a plan together from it, and `margins`
holds it to the spec's requirements. Nothing here imports the cost model or the candidates, so that no formula checks
itself: a fault in either shows as a disagreement.
"""
