"""Sample captures and the conversations with real software that they are made of."""
