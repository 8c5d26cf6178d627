"""The second look at a recording: what is in place, an alias or composed becomes plain operations."""
