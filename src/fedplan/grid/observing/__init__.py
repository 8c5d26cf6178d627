"""What a grid tells of itself: events, metrics, and the id by which both name a request."""
