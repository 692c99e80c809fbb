"""Parts of the network stay with the clients."""
