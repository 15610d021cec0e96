"""The meaning of a trial and of a record: frozen values and pure functions, standard library only."""
