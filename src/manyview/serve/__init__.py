"""A resident process with a queue of jobs on the disk, and who asks it over HTTP."""
