"""The paper's table 1: how much of what labelled words depend on lies to their right."""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
