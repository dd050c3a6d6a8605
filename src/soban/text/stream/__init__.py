"""Token ids to text as they come."""
