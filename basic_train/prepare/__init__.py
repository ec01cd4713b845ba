"""Training sets from folders of photos: choose, strip JPEG artefacts, remove duplicates, write PNGs and an index."""
