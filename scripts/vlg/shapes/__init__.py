"""The embedded world: drawn scenes, their captions, a verifier that reads pictures, tiny models."""
