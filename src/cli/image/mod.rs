//! The commands about images, and how an image is found.

pub mod find;
