"""Running the network on prepared inputs."""
