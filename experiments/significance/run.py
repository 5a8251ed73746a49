"""The paper's tests: does opening more near the output help, does validation foretell test?"""

from unmask.experiment import main

if __name__ == "__main__":
    main(__file__)
