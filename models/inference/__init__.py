"""How an evaluated network is computed: engines, 16 bits, and its graph as ONNX."""
