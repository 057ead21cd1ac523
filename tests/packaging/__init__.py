"""The package as it is built and installed: its files, its floors, its public names."""
