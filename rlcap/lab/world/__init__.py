"""The world of the lab: scenes, how they are drawn and described, and how captions are checked against them."""
