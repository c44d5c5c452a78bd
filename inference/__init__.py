"""From what the car sees to what it wants to do: model packages, features, actions, policies."""
