"""The server's own step from the clients' mean."""
