"""Neural networks: `Model(torso, core, head)`, from observations to policies, values or return distributions."""
