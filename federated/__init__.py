"""Federated learning: partition, local updates, aggregation, simulation and deployment on Flower."""
