"""Contrastive pretraining with a queue of keys: InfoNCE, UberNCE, CoCLR."""
