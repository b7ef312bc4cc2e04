//! Compression of layers: gzip, zstd or none, found out by looking at the first bytes.
//!
//! What it implements: RFC 1952 (gzip, several members in a row are one stream), RFC 8878 (zstd),
//! and the layer media types of the OCI image specification, through flate2 and zstd.
//!
//! Reading is split in two for speed: one thread decompresses and hashes, the caller's thread
//! makes files, and buffers go to and fro between them:
//!
//! ```text
//!   input ─▶ sha256 (digest) ─▶ decompress ─▶ sha256 (diff id) ─▶ ▒▒▒▒ ─▶ the caller
//!            └──────────── background thread ────────────────┘  at most 8
//! ```
//!
//! Interface: [`Compression`], [`decode`], [`Encoder`]. Read next: [`super::archive`].

use crate::error::{Context, Error, Kind, Result};
use sha2::{Digest as _, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How the bytes of a layer are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// A plain tar.
    Plain,
    /// gzip, which every implementation reads.
    #[default]
    Gzip,
    /// Zstandard: smaller and several times faster to unpack.
    Zstd,
}

impl std::str::FromStr for Compression {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "plain" | "none" | "tar" => Ok(Compression::Plain),
            "gzip" | "gz" => Ok(Compression::Gzip),
            "zstd" | "zst" => Ok(Compression::Zstd),
            _ => Err("one of gzip, zstd, plain".into()),
        }
    }
}

impl Compression {
    /// From the first bytes of a stream (six are enough).
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::Plain,
        }
    }
    /// The layer's media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A stream without its compression, of whichever kind it is.
pub fn decoder<'a>(input: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut input = BufReader::with_capacity(128 * 1024, input);
    let start = input.fill_buf().context("cannot read the layer")?;
    let other = match start {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(("xz", "xz -dc")),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(("bzip2", "bzip2 -dc")),
        _ => None,
    };
    if let Some((kind, program)) = other {
        let what = format!("it is compressed with {kind}, which image layers are not");
        return Err(Error::kind(Kind::Unsupported, what).hint(format!(
            "unpack it on the way: `{program} FILE |`, and - in place of the file"
        )));
    }
    Ok(match Compression::detect(start) {
        Compression::Plain => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).context("cannot start zstd")?)
        }
    })
}

/// What a whole stream was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// `sha256:…` of the bytes as they came.
    pub digest: String,
    /// How many they were.
    pub size: u64,
    /// `sha256:…` of the bytes without compression: the diff id.
    pub diff_id: String,
    /// How many those were.
    pub unpacked: u64,
}

const CHUNK: usize = 512 * 1024;

/// Gives `consume` the decompressed stream, which is read and hashed in another thread; reads on
/// to the end whatever `consume` leaves. More than `limit` bytes without compression are an error.
///
/// The thread has ended when this returns. Errors: `consume`'s, or the stream's.
pub fn decode<T>(
    input: impl Read + Send,
    limit: u64,
    consume: impl FnOnce(&mut Chunks) -> Result<T>,
) -> Result<(T, Decoded)> {
    let (full, chunks) = sync_channel(8);
    let (empties, empty) = sync_channel(16);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(input, limit, &full, &empty));
        let mut reader = Chunks {
            chunks,
            empties,
            chunk: Vec::new(),
            at: 0,
            ended: false,
        };
        let result = consume(&mut reader);
        let drained = result.is_ok().then(|| reader.drain());
        drop(reader); // the producer's next send fails, so it stops
        let Ok(produced) = producer.join() else {
            return Err(Error::new("the decompressing thread panicked"));
        };
        let value = match (result, &produced) {
            (Ok(value), _) => value,
            // The stream's own failure explains the one that it caused in the consumer.
            (Err(e), Err(p)) if p.message() != CUT_SHORT => {
                return Err(produced.err().unwrap_or(e));
            }
            (Err(e), _) => return Err(e),
        };
        drained.transpose()?;
        Ok((value, produced?))
    })
}

const CUT_SHORT: &str = "the layer's stream ended early";

/// The decompressed stream as the consumer sees it.
pub struct Chunks {
    chunks: Receiver<Vec<u8>>,
    empties: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Chunks {
    fn drain(&mut self) -> Result<()> {
        loop {
            match self.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(more) => {
                    let n = more.len();
                    self.consume(n);
                }
                Err(e) => return Err(e).context("cannot read the layer to its end"),
            }
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.at == self.chunk.len() && !self.ended {
            let mut used = std::mem::take(&mut self.chunk);
            used.clear();
            let _ = self.empties.try_send(used);
            self.at = 0;
            match self.chunks.recv() {
                Ok(chunk) => self.chunk = chunk,
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.chunk[self.at..])
    }
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

fn produce(
    input: impl Read + Send,
    limit: u64,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Decoded> {
    let mut seen = Seen::default();
    let mut hash = Sha256::new();
    let mut unpacked = 0u64;
    {
        let mut stream = decoder(Hashing {
            input,
            seen: &mut seen,
        })?;
        loop {
            let mut chunk = empty.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            while filled < CHUNK {
                match stream.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e).context("cannot decompress the layer"),
                }
            }
            if filled == 0 {
                break;
            }
            chunk.truncate(filled);
            hash.update(&chunk);
            unpacked += filled as u64;
            if unpacked > limit {
                return Err(Error::new(format!(
                    "the layer unpacks to more than {limit} bytes"
                )));
            }
            if full.send(chunk).is_err() {
                return Err(Error::new(CUT_SHORT)); // the consumer failed and says why
            }
        }
        // A decoder may stop before the input's end; the digest is of all of it.
        drop(stream);
    }
    Ok(Decoded {
        digest: format!("sha256:{}", hex(&seen.hash.finalize())),
        size: seen.size,
        diff_id: format!("sha256:{}", hex(&hash.finalize())),
        unpacked,
    })
}

#[derive(Default)]
struct Seen {
    hash: Sha256,
    size: u64,
}

struct Hashing<'a, R> {
    input: R,
    seen: &'a mut Seen,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.seen.hash.update(&buffer[..n]);
        self.seen.size += n as u64;
        Ok(n)
    }
}

/// Compresses what is written, and knows both digests at the end.
pub struct Encoder<W: Write> {
    inner: Inner<W>,
    diff: Sha256,
    unpacked: u64,
}

enum Inner<W: Write> {
    Plain(Counted<W>),
    Gzip(Box<flate2::write::GzEncoder<Counted<W>>>),
    Zstd(zstd::stream::write::Encoder<'static, Counted<W>>),
}

struct Counted<W> {
    output: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.output.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

impl<W: Write> Encoder<W> {
    /// Starts. gzip's header holds no time and no name, so the same input gives the same bytes.
    pub fn new(output: W, compression: Compression) -> Result<Self> {
        let counted = Counted {
            output,
            hash: Sha256::new(),
            size: 0,
        };
        let inner = match compression {
            Compression::Plain => Inner::Plain(counted),
            Compression::Gzip => Inner::Gzip(Box::new(flate2::write::GzEncoder::new(
                counted,
                flate2::Compression::new(6),
            ))),
            Compression::Zstd => Inner::Zstd(
                zstd::stream::write::Encoder::new(counted, 3).context("cannot start zstd")?,
            ),
        };
        Ok(Encoder {
            inner,
            diff: Sha256::new(),
            unpacked: 0,
        })
    }

    /// Writes the end, and returns the output with the digests.
    pub fn finish(self) -> Result<(W, Decoded)> {
        const FAILED: &str = "cannot write the end of the layer";
        let mut counted = match self.inner {
            Inner::Plain(counted) => counted,
            Inner::Gzip(encoder) => encoder.finish().context(FAILED)?,
            Inner::Zstd(encoder) => encoder.finish().context(FAILED)?,
        };
        counted.flush().context(FAILED)?;
        let decoded = Decoded {
            digest: format!("sha256:{}", hex(&counted.hash.finalize())),
            size: counted.size,
            diff_id: format!("sha256:{}", hex(&self.diff.finalize())),
            unpacked: self.unpacked,
        };
        Ok((counted.output, decoded))
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = match &mut self.inner {
            Inner::Plain(w) => w.write(bytes)?,
            Inner::Gzip(w) => w.write(bytes)?,
            Inner::Zstd(w) => w.write(bytes)?,
        };
        self.diff.update(&bytes[..n]);
        self.unpacked += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.inner {
            Inner::Plain(w) => w.flush(),
            Inner::Gzip(w) => w.flush(),
            Inner::Zstd(w) => w.flush(),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same_with_the_same_digests() {
        let data: Vec<u8> = (0..2_000_000u32).map(|i| (i / 7) as u8).collect();
        for kind in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            let mut encoder = Encoder::new(Vec::new(), kind).unwrap();
            encoder.write_all(&data).unwrap();
            let (packed, said) = encoder.finish().unwrap();
            let mut out = Vec::new();
            let (_, found) = decode(&packed[..], u64::MAX, |chunks| {
                chunks.read_to_end(&mut out).context("read")
            })
            .unwrap();
            assert_eq!(out, data);
            assert_eq!(found, said, "{kind:?}");
        }
    }

    #[test]
    fn a_cut_stream_and_a_bomb_are_errors() {
        let mut encoder = Encoder::new(Vec::new(), Compression::Gzip).unwrap();
        encoder.write_all(&[0; 100_000]).unwrap();
        let (packed, _) = encoder.finish().unwrap();
        let all = |chunks: &mut Chunks| chunks.read_to_end(&mut Vec::new()).context("read");
        assert!(decode(&packed[..packed.len() - 20], u64::MAX, all).is_err());
        let e = decode(&packed[..], 99_999, all).unwrap_err();
        assert!(e.message().contains("more than 99999"), "{e:?}");
    }
}
