"""Models of torchvision: from files, and from memory."""
