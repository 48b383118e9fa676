"""Images in, land-cover maps out."""
