"""What a user writes: the model, the workload, the service levels and the search, validated and resolved.

`Spec.load` reads a deployment from a file or a mapping; `overrides` are the dotted keys by which one is changed.
"""
