"""Generator, discriminator, and model files."""
