//! Images: archives, the pipeline from bytes to a stored image, the store and its trees.
