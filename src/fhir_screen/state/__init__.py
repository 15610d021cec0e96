"""What a night leaves on this machine, and what it compares itself with before it writes."""
