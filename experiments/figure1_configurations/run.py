"""The paper's figure 1: F1 over the 16 configurations, in Gray order."""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
