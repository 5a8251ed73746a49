"""The paper's figure 2: a small encoder and a small decoder from nothing."""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
