"""Functions that return tensors: pictures are float32 (N, C, H, W) in [-1, 1], points are float32 (N, 2)."""
