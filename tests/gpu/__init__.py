"""What only a GPU can show. Without one everything here runs on the CPU, and Triton in its interpreter: `make gpu DEVICE=cpu`."""

import torch

HAS_GPU = torch.cuda.is_available()
ACCELERATOR = "gpu" if HAS_GPU else "cpu"
