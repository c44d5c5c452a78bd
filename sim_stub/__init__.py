"""The headless simulator: a track, a car on it, and the daemon's devices filled by them."""
