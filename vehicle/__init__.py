"""The daemon: one car's state, the loops that drive it, and the gate before its wires."""
