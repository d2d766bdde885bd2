//! Randomness from the kernel.

use std::io;

/// Fills `bytes` with random ones.
///
/// # Errors
/// The kernel's refusal; there is none once it has booted.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    for chunk in bytes.chunks_mut(256) {
        // SAFETY: the chunk outlives the call and is passed with its length; up to 256 bytes come at once.
        let len = unsafe { libc::getrandom(chunk.as_mut_ptr().cast(), chunk.len(), 0) };
        if usize::try_from(len) != Ok(chunk.len()) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A random word.
///
/// # Errors
/// As [`fill`].
pub fn word() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_to_the_last_byte() {
        let mut first = [0; 1000];
        let mut second = [0; 1000];
        fill(&mut first).unwrap();
        fill(&mut second).unwrap();
        assert_ne!(first, second);
        assert_ne!(first[992..], [0; 8]);
        assert_ne!(word().unwrap(), word().unwrap());
    }
}
