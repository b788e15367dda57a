"""Seconds, bytes and dollars of one replica: the formulas of docs/cost-model.md, on numbers or arrays alike.

`memory`, `roofline` and `collectives` are the terms; `decode` and `prefill` put them together into steps and prompts;
`step_curve` says how a step grows with the batch, `sharding` which splits are legal.
"""
