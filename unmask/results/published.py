"""Table 2 of Dukić and Šnajder (ACL Findings 2024): mean F1 over five seeds, as printed.

Only these means can be read; the sixteen means behind its figure 1 and its significance tests are
drawn, not printed. "best" is what surpasses 1111; which code that is cannot be told from the text
of the table, so "0110" stands for it where there is one.
"""

TASKS = ("NER", "Rest14", "ACE05", "chunking")

VALIDATION_AND_TEST = {
    "Llama2-7B": {
        "0000": ((0.788, 0.744), (0.430, 0.482), (0.591, 0.574), (0.875, 0.864)),
        "1111": ((0.936, 0.908), (0.345, 0.402), (0.635, 0.584), (0.892, 0.880)),
        "0110": ((0.947, 0.920), (0.488, 0.546), (0.653, 0.616), (0.898, 0.885)),
    },
    "Mistral-7B": {
        "0000": ((0.789, 0.756), (0.484, 0.553), (0.607, 0.584), (0.882, 0.872)),
        "1111": ((0.953, 0.927), (0.581, 0.641), (0.668, 0.626), (0.904, 0.892)),
        "0110": ((0.956, 0.927), (0.597, 0.659), (0.676, 0.639), None),
    },
}

ENCODERS = {
    "RoBERTa-base": ((0.897, 0.883), (0.313, 0.369), (0.609, 0.508), (0.889, 0.877)),
    "RoBERTa-large": ((0.924, 0.900), (0.403, 0.474), (0.698, 0.628), (0.891, 0.877)),
}

INSTRUCTION_TUNED = {
    "Llama2-7B": ((0.778, 0.771), (0.523, 0.608), (0.375, 0.347), (0.833, 0.818)),
    "Mistral-7B": ((0.897, 0.887), (0.646, 0.733), (0.477, 0.461), (0.873, 0.860)),
}

CORRELATIONS = {
    "Llama2-7B": (0.999, 0.994, 0.806, 0.998),
    "Mistral-7B": (0.999, 0.983, 0.899, 0.994),
}
"""Between validation and test over all sixteen configurations."""
