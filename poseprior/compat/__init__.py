"""Stand-ins for other libraries' pose priors."""
