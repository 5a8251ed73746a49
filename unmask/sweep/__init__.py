"""The sweep: which runs there are, which are missing, and doing them."""
