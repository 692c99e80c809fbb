"""What every other part stands on: errors, names, identity, files and configuration. Imports no heavy library."""
