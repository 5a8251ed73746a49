"""Instruction-tuned extraction systems: models that answer in text, scored beside labelers.

    corpus -> IEExample -> System.render -> Query -> model -> output -> System.parse -> items
                                              |                                          |
                                      encoding, training              grounding, IOB2, scoring

To add a system:

1. Write `unmask/instruct/NAME.py` with a frozen dataclass that extends `system.System`. Its fields
   are its settings, with defaults (strings, numbers, bools); set the class attributes `name`,
   `tasks`, `recipe` and `occurrences` ("next" when answers repeat each mention, "all" when they are
   deduplicated), and override `decoding()`.
2. `queries(example, labels, train)` yields `prompts.Query` objects. `single_turn(prompt, answer)`
   makes the segments of a plain prompt; conversations list their own. Types in `labels` and
   `items` of a query are natural names (`labels.to_natural(raw)`). Ids of queries are unique and
   begin with the example's id. Randomness comes from `self.generator(key)` only.
3. `parse(output, query)` is total and linear: use `parsing.parsed` and `parsing.malformed`, with
   reasons of the form "what is wrong: the offending text". Answers must read back: `render`
   checks it and marks, drops or refuses collisions.
4. `evaluate(pairs)` gives the system's own metric, `metrics.MicroF1` does the counting. Where the
   released code differs from the paper, `self.mode` ("paper" or "official") decides.
5. Optionally `grammar(query)` for constrained decoding, and `render_all` to sample over a corpus.
6. Add a line to `registry.SYSTEMS`. `unmask instruct ... --system NAME` then builds, trains,
   generates and evaluates, and the fuzz and speed tests, which run over SYSTEMS, cover it.

Formats that a system's models expect are kept byte for byte. Longer instruction texts are our own
wording; others' are loaded from a file.
"""
