"""How much of JSON Schema is accepted, and whether what a walk through the masks writes validates."""
