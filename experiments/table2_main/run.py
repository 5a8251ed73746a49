"""The paper's table 2: all causal, all open, the best configuration, and encoders."""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
