//! A streaming Chatterbox text-to-speech engine that keeps a memory promise.
