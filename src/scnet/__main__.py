"""`python -m scnet`, and what `torchrun -m scnet` starts."""

from scnet.cli import run

if __name__ == "__main__":
    run()
