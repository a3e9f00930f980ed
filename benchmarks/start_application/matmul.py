"""What the benchmarks of starting run: a line at once, then PyTorch, one product of two matrices, and its sum."""

import sys

print("started", flush=True)

import torch  # noqa: E402

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
matrix = torch.arange(256 * 256, dtype=torch.float32, device=device).reshape(256, 256) % 7
product = (matrix.to(torch.bfloat16) @ matrix.to(torch.bfloat16)).float()
print(f"result {product.sum().item():.0f} on {device}, torch {torch.__version__}", flush=True)
