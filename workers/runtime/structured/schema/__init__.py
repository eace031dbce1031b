"""JSON Schema, lowered to what the grammar library enforces.

Every lowering is sound: what the lowered schema describes is a part of what the user's schema describes, so
a finished output always validates. Where the whole can't be had, it is a part that loses only forms, such as
an order of properties; where not even that, the schema is refused, with the path of the keyword.
"""
