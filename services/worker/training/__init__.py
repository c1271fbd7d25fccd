"""Training loops, augmentation, robust training, and the attack-defense cycle."""
