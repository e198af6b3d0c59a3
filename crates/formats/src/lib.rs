//! Safe readers and writers: pickle, torch archives, safetensors, audio.
