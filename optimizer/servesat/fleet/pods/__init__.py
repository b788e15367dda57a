"""TPU slices in their pods: which fit together, and where each one stands.

`slices` has the shapes, what each one contains, and the bounds; `packing` places them with CP-SAT.
"""
