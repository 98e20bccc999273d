"""Where weights come from and go to: checkpoints, published files, the hub, other libraries."""
