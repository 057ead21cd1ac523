"""The prompts that come with the package, as files to read, copy and change."""
