"""The supernet: four slimmable transforms, a factorised prior and the grouped context model."""
