"""What every other package builds on; nothing here depends on models or chips.

`result` and `plan` are the parts of an answer, `tolerances` says what meets a limit and what ties, `reading` parses the
files that people write and `validation` checks them, `parallel` and `journal` carry long runs, `errors` holds the
exceptions.
"""
