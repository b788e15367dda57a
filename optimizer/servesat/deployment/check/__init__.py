"""What a valid plan is, without a solver: every figure and every margin derived a second time.

`replica` is the cost model again, in plain scalar Python; `plan.rederive` puts a plan together from it, and `margins`
holds it to the spec's requirements. Of the candidates it imports the names, units and limits of the table of
requirements, and of the cost model nothing, so that no formula checks itself: a fault shows as a disagreement.
"""
