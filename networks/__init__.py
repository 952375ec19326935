"""Function approximators: `Model(torso, core, head)`, from an observation to what an agent needs of it."""
