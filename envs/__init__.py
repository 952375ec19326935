"""Games as Gymnasium environments: how they are made, what a score on them means, and how they are recorded."""
