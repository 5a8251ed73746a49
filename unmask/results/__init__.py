"""One ledger for every kind of run, and what is read from it; runs without torch."""
