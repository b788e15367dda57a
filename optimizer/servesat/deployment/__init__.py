"""One deployment, from a spec to a proved plan: `solve.solve`.

`formulation` is the CP-SAT model with its `settings`, `check` derives the chosen plan again without a solver,
`binding` says what holds it where it is and `conflicts` why there is none, `certificate` writes down what it rests on,
and `verification` checks that.
"""
