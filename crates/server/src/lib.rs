//! HTTP and WebSocket server over the engine.
