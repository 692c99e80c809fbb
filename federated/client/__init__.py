"""The client's side of a round: local training, what it sends and what it remembers."""
