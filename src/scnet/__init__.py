"""SCNet and the cascade family of instance segmentation on plain PyTorch."""
