"""The spec of a deployment: its model, workload, service levels and search, validated and resolved.

`Spec.load` reads a file or a mapping; `overrides` handles the dotted keys that change a spec, `market` what it can be
bought as.
"""
