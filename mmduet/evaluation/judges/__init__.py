"""Judges that grade open answers."""
