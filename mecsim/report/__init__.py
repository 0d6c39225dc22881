"""Reports: one HTML file about a run, a comparison or the reproduction of the paper."""
