"""deepmedix-bench: honest, fast benchmarking of compact medical-image classifiers."""

__version__ = "0.1.0"
