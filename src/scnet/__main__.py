"""`python -m scnet`, and what `torchrun -m scnet` starts."""

from scnet.cli.main import run

if __name__ == "__main__":
    run()
