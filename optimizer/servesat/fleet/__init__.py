"""Many workloads on one inventory of chips, over regions, purchases and periods: `plan.plan_fleet`.

`spec` is what a user writes, and `instance_from_spec` turns it into an `instance` of integers. `formulation` is the
compact model, `decomposition` column generation for large fleets, and `pods` the placement of TPU slices. `cheapest`
chooses between them, `plan` adds the goals after the bill, and `result` is what it returns.
"""
