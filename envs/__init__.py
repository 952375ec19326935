"""Games as Gymnasium environments: making them, evaluation protocols, action replays and videos."""
