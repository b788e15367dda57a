"""Runs of a task over many items: in this process, or in several.

`runs` hands the items out and asks for no more than a `pool` has: `processes` of loky.
"""
