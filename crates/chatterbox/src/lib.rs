//! The networks of the Chatterbox family.
