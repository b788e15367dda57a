"""What people ask around an answer; each module is one question.

Why this plan (`explain`, `why_not`, `k_best`), what would change it (`corrections`, `cost_of_limits`, `whatif`,
`breakpoints`, `robustness`), and what else there is (`pareto`, `mode_comparison`, `chip_ranking`).
"""
