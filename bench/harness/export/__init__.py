"""Networks as ONNX files: written and checked, rounded to 8 bits, and measured as a small device would run them."""
