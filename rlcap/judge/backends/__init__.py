"""What answers the requests of judges: servers, local models, and classes of a user."""
