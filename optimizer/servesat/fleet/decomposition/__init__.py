"""Large fleets by column generation: covers of each workload and period are priced separately, a master mixes them.

`column_generation` is the loop. `pricing`, `covers` and `coupled_covers` are the pricing problems, `master` the master
problem, and `rounding` the heuristic that makes the mixture integer. `options` has the parameters of all of them.
"""
