"""The server's side of a round: client manager, aggregation, the loop, its checkpoints."""
