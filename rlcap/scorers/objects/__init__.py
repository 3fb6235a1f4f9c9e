"""Objects in captions: finding them by a vocabulary of names, and matching them one to one."""
