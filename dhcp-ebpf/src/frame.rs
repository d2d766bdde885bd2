//! Bounded reads and writes at an offset: the one place that knows "too short".
//!
//! The verifier wants comparisons of a pointer against the packet's end; people want slices. [`Frame`] gives
//! each its own body: `[u8]` here for the agent and the tests, a pair of pointers in the XDP program.

/// Bytes that can be read at an offset.
pub trait Frame {
    /// Reads `N` bytes at `at`; `None` if the frame ends before them.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The `N` bytes at `at`, checked once for all of them; `None` if the frame ends before their end.
    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;

    /// Length of the frame, in bytes.
    fn len(&self) -> usize;

    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes that can be overwritten in place and whose length can change at the end.
pub trait FrameMut: Frame {
    /// Writes `bytes` at `at`; `None` (and nothing written) if the frame ends before them.
    fn write<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()>;

    /// The `N` bytes at `at`, to be overwritten; `None` if the frame ends before their end.
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]>;

    /// Copies the first `len` bytes of `source` to `at`; `None` if either ends before, and then some may be written.
    fn copy_from<const N: usize>(&mut self, at: usize, source: &[u8; N], len: usize) -> Option<()>;

    /// Sets the length of the frame to `len` bytes; `None` leaves it as it was.
    ///
    /// Bytes that appear at the end have no defined value: the caller writes them.
    fn resize(&mut self, len: usize) -> Option<()>;
}

impl Frame for [u8] {
    #[inline]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk::<N>().copied()
    }

    #[inline]
    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.get(at..)?.first_chunk::<N>()
    }

    #[inline]
    fn len(&self) -> usize {
        self.len()
    }
}

/// A frame in a buffer of the agent or of a test: the capacity of `buffer` is the room it may grow into.
#[derive(Debug)]
pub struct Buffer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Buffer<'a> {
    /// Takes the first `len` bytes of `buffer` as the frame; a `len` past the buffer is cut to it.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], len: usize) -> Self {
        let len = len.min(buffer.len());
        Self { buffer, len }
    }

    /// The frame as it stands.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Frame for Buffer<'_> {
    #[inline]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes().read(at)
    }

    #[inline]
    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.bytes().window(at)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }
}

impl FrameMut for Buffer<'_> {
    #[inline]
    fn write<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
        let end = at.checked_add(N)?;
        self.buffer.get_mut(..self.len)?.get_mut(at..end)?.copy_from_slice(&bytes);
        Some(())
    }

    #[inline]
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.buffer.get_mut(..self.len)?.get_mut(at..)?.first_chunk_mut::<N>()
    }

    #[inline]
    fn copy_from<const N: usize>(&mut self, at: usize, source: &[u8; N], len: usize) -> Option<()> {
        let end = at.checked_add(len)?;
        let source = source.get(..len)?;
        self.buffer.get_mut(..self.len)?.get_mut(at..end)?.copy_from_slice(source);
        Some(())
    }

    #[inline]
    fn resize(&mut self, len: usize) -> Option<()> {
        if len > self.buffer.len() {
            return None;
        }
        self.len = len;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_is_none_at_every_length() {
        let bytes = [7_u8; 16];
        for cut in 0..=16 {
            let frame = &bytes[..cut];
            for at in 0..=17 {
                assert_eq!(frame.read::<4>(at).is_some(), at + 4 <= cut, "cut {cut} at {at}");
            }
        }
        assert_eq!(bytes[..].read::<1>(usize::MAX), None);
    }

    #[test]
    fn a_write_that_does_not_fit_writes_nothing() {
        let mut room = [0_u8; 8];
        let mut frame = Buffer::new(&mut room, 4);
        assert_eq!(frame.write(2, [1, 2, 3]), None);
        assert_eq!(frame.copy_from(3, &[9; 8], 2), None);
        assert_eq!(frame.copy_from(0, &[9; 2], 3), None);
        assert_eq!(frame.bytes(), [0; 4]);
        assert_eq!(frame.resize(9), None);
        assert_eq!(frame.resize(8), Some(()));
        assert_eq!(frame.write(5, [1, 2, 3]), Some(()));
        assert_eq!(frame.bytes(), [0, 0, 0, 0, 0, 1, 2, 3]);
    }
}
