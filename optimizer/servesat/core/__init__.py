"""What every other package builds on; nothing here depends on models or chips.

`result` and `plan` are the parts of an answer, `tolerances` says what meets a limit and what ties, `arrays` and
`dominance` hold records of arrays and compare their rows, `quantities` and `text` write figures and names. `reading`
parses the files that people write, `validation` checks them and `writing` replaces files whole; `parallel` and
`journal` carry long runs, `errors` holds the exceptions.
"""
