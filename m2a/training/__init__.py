"""Training M2AENet: synthetic local blur, losses, trainer."""
