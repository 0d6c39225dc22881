"""Golden results: what runs and trainings gave when they were last declared right.

Everything here goes by faces that stay when the inside of mecsim is rebuilt: the command line,
trace files (h5py) and policy files (safetensors). `python -m tests.golden` rewrites them.
"""
