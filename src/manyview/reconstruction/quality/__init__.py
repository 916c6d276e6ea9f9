"""How far a result can be trusted, computed from the result alone."""
