"""The systems that the paper's tables 2 and 3 compare with, one file each; nothing here imports torch at its import."""
