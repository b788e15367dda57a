"""Questions about a spec and its answer.

Why this plan (`explain`, `why_not`, `k_best`), what would change it (`corrections`, `cost_of_limits`, `whatif`,
`breakpoints`, `robustness`), and which alternatives exist (`pareto`, `mode_comparison`, `chip_ranking`). Several are
made of `scenarios`, `batch_curve` and `slice_summaries`.
"""
