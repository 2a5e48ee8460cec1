"""What a client meets: routes, the guard before them, error bodies, the console page."""
