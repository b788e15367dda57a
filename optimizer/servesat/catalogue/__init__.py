"""The catalogue of models, chips and price books: a data file for each, and a source for every figure.

`load` finds an entry by id or path: `load_model`, `load_chip`, `load_price_book`. `huggingface` reads the config.json
of a publisher, and `hub` fetches it.
"""
