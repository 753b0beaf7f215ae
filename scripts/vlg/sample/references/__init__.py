"""Pictures to hold scores against: ceilings and floors."""
