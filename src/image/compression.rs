//! The compressions that an image may come in, told by content and never by name.

use std::fmt;
use std::io::{self, BufRead, Read};

/// Memory that an xz stream may ask for (SECURITY: a header of a few bytes can ask for gigabytes).
const XZ_MEMORY: u64 = 128 << 20;
/// Window of a zstd stream, as a power of two: 128 MiB, what `zstd --long` makes.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How the bytes of an archive are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// bzip2, any number of streams.
    Bzip2,
    /// xz, any number of streams.
    Xz,
    /// RFC 8878, any number of frames.
    Zstd,
}

impl Compression {
    /// Tells the compression from the first bytes of a file; what is none of them is plain.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (RFC 8878 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns a reader of the unpacked bytes.
    ///
    /// # Errors
    /// When the decoder can't be set up.
    pub fn decoder<'a>(self, input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Compression::Xz => {
                let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
        }
    }

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

    #[test]
    fn each_kind_is_known_by_content_and_read_with_several_members() {
        for compression in ALL {
            let mut bytes = packed(compression, b"first ");
            assert_eq!(Compression::detect(&bytes), compression);
            bytes.extend(packed(compression, b"second"));
            let mut text = String::new();
            compression.decoder(&bytes[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "first second", "{compression}");
        }
        assert_eq!(Compression::detect(b""), Compression::None);
        assert_eq!(Compression::detect(b"\x1f"), Compression::None);
    }

    #[test]
    fn a_cut_or_damaged_stream_is_an_error() {
        let content: Vec<u8> =
            (0..200_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compression in ALL.into_iter().skip(1) {
            let bytes = packed(compression, &content);
            let mut damaged = bytes.clone();
            damaged[bytes.len() / 2] ^= 0x55;
            for bad in [&bytes[..bytes.len() / 2], &damaged, &bytes[..bytes.len() - 1]] {
                // A zstd frame need not have a checksum; then the image's ID is what tells.
                if compression == Compression::Zstd && std::ptr::eq(bad, &damaged[..]) {
                    continue;
                }
                let read = compression.decoder(bad).unwrap().read_to_end(&mut Vec::new());
                assert!(read.is_err(), "{compression}");
            }
        }
    }

    #[test]
    fn an_xz_stream_that_wants_gigabytes_is_refused() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 30);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32);
        // The encoder itself may lack the memory; the decoder is what is tested.
        let Ok(stream) = stream else { return };
        let mut to = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        to.write_all(b"x").unwrap();
        let bytes = to.finish().unwrap();
        assert!(Compression::Xz.decoder(&bytes[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
