r"""Does looking right help small models too? A pair pre-trained from nothing, and fine-tuned.

An encoder (masked language modelling) and a decoder (causal) of one shape read the same text in
the same order. From every checkpoint three labelers are fine-tuned: the encoder, the decoder with
its causal mask, the decoder without (Dukić and Šnajder, ACL Findings 2024, section 5.4).

    text -> tokens.bin -> pretrain --- encoder/00 ... 50 ---- finetune -> ledger -> figure
                                  \--- decoder/00 ... 50 ---/

Here all parameters are trained, so a stack holds weights of its own for each run: all seeds, and of
a decoder both masks, of one checkpoint go through one forward and backward pass.
"""
