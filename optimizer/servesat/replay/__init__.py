"""What a plan does under requests that arrive at random, or as they were recorded: a replay of every step.

`requests` draws them, `traces` reads them, `step_times` says what a step of a plan's replica takes, `scheduler` runs a
replica, `pools` all of them, and `percentiles` sums up; `replayed` answers for a plan (docs/queues.md).
"""
