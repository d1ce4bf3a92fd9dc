"""Runs the platform on one machine, and a real mongod and a real Kafka broker for its tests."""
