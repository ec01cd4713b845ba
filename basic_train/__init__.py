"""Training front-end: supernet, learned structure, data and training loop (needs the extra ``[train]``)."""
