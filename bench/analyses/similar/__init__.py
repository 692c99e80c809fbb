"""The analysis `similar`: training images that the model holds a test image to be like."""
