"""What is settled before the first cell is fitted."""
