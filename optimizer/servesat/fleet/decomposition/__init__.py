"""Large fleets by column generation: each workload's covers are priced alone, a master mixes them.

`column_generation.decompose` is the loop; `covers` and `coupled_covers` price, `master` and `rounding` choose.
"""
