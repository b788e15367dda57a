"""What can be served and rented: models, chips and price books, one data file each, every figure with its source.

`load` finds an entry by id or path: `load_model`, `load_chip`, `load_price_book`. `huggingface` reads the config.json
that a publisher ships, and `hub` fetches one.
"""
