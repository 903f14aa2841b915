"""`python -m allora_lab` is `allora-lab`."""

from allora_lab.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
