"""Ground floor: what a car's hardware is, and the values that flow through it."""
