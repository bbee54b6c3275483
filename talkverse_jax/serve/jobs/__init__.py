"""Jobs that are kept on the disk, made one after another by a process of its own, and told of."""
