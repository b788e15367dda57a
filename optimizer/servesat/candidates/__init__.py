"""Everything a deployment could be: layouts, serving modes and batches, as columns with their figures.

`layouts` and `serving_modes` enumerate, `batch_breakpoints` and `pool_sizing` say which batches and slices matter, and
`evaluation.evaluate` computes what each candidate costs and which requirements it violates.
"""
