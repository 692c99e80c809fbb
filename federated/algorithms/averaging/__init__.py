"""One mean at the server; the clients' steps differ."""
