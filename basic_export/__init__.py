"""BaSIC export: turn a trained supernet into a bundle that `basic_runtime` runs without PyTorch."""
