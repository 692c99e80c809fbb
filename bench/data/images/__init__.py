"""Image files: decoded and resized once, cached, augmented."""
