"""The testbed: the same scenario and scheduler on real processes, DNN blocks and sockets."""
