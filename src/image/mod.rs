//! Images: archives, the pipeline from bytes to a stored image, the store and its trees.
//!
//! The way of a file: [`stream`] unpacks and hashes, [`archive`] reads entries, [`aci`] holds them to the rules of an
//! App Container Image, [`extract`] writes them below a directory, [`store`] publishes the result. Nothing of an image
//! is trusted on that way: not a path, a size, an owner or an order.

pub mod compression;
pub mod stream;
