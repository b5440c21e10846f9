"""A local page to look through synthetic images, and what people decide there."""
