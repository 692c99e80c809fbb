"""External validation: another site's images."""
