"""DNNs: layer graphs, cuts into blocks, profiles."""
