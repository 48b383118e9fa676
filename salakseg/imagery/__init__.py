"""What every room needs of pictures; knows nothing of learning."""
