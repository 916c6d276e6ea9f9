"""What a user knows of the pictures beforehand, as optional input of networks that can use it."""
