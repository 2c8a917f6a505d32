"""The gated linear recurrent unit of Griffin and RecurrentGemma."""
