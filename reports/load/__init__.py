"""Reading a run's folder, going on past whatever is missing or corrupt."""
