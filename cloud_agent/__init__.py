"""Keeps a car current: models and software over MQTT. Not built yet: it has an issue of its own."""
