"""Ground tools without a word of the domain: arrays, files, signals, text, numba, intervals."""
