"""One cell: planned, given its inputs and its network, fitted, tested, and opened again when it is finished."""
