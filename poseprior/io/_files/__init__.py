"""Files and folders: opened without unpickling, found, and put in the order of their frames."""
