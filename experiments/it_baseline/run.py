"""The IT rows of the paper's table 2: the same models tuned to write their answer."""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
