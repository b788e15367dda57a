"""Placement of TPU slices in pods: which slices fit together, and where each one goes.

`slices` has the shapes, the valid inequalities and the first-fit heuristic; `packing` decides with CP-SAT.
"""
