"""What every package builds on, and what knows nothing of models or chips.

`result` is what an answer is made of, `tolerances` what it means to meet a limit or to tie, `validation` reads the
files that people write, `parallel` and `journal` carry long runs, and `errors` is the one family of exceptions.
"""
