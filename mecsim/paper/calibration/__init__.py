"""Calibration of the default scenario: what the paper leaves out, from levels that it gives.

``python -m mecsim.paper.calibration`` searches a grid of round numbers for settings that meet the
published levels of :mod:`mecsim.paper.calibration.criterion`, looks at the trends of those that do,
and writes ``results/calibration.md`` and CSV tables.
"""
