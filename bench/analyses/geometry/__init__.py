"""What the geometry of a fitted network is, where it is defined: metrics, margins, paths, dimension, curvature."""
