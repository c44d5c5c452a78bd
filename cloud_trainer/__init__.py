"""Training on top of the simulator: driving policies are learned here and leave as packages that the car can load."""
