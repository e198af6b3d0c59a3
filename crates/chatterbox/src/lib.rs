//! The networks of the Chatterbox family.

pub mod config;
pub mod noise;
pub mod s3gen;
pub mod t3;
pub mod text;
<<<<<<< HEAD
pub mod vocoder;
=======
pub mod voice;
>>>>>>> cf38f7c (Prepare voices: recordings in, resampling, front ends and the three networks)
pub mod weights;
