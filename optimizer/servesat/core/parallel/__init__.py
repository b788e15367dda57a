"""Runs of a task over many items: in this process, in several of this machine, or on a cluster.

`runs` hands the items out and asks for no more than a `pool` has: `processes` of loky, or the workers of a `cluster`.
"""
