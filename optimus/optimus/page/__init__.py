"""Pictures of latents, the demo and its page in the browser."""
