"""The S4GAN run: losses, step, loop, checkpoints."""
