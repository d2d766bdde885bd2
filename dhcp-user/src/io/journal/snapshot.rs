//! The whole journal as it was at one position, read beside the thread that writes it.
//!
//! Records are only ever appended, so the bytes up to a position are a consistent picture of everything, however long
//! somebody takes to read them; a rewrite meanwhile leaves the file that was open as it is.

use std::io;
use std::sync::Arc;

use super::compact::{Index, Window};
use super::disk::DiskFile;
use super::follow::Position;
use super::replay::scan;
use crate::lease::journal::{Found, Reader, Record};
use crate::lease::time::WallTime;

/// Everything that was durable at a position.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the records of the position end in the file.
    pub(super) end: u64,
    pub(super) position: Position,
}

impl Snapshot {
    /// The position: what a follower from there gets is what is not in the snapshot.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Reads the last record of everything: other declarations first, then leases as they follow each other in the file;
    /// free leases that were never used are left out. Costs 16 bytes per lease while it runs.
    ///
    /// # Errors
    ///
    /// What the system says, or what `sink` said.
    pub fn read(&self, sink: &mut dyn FnMut(Record) -> io::Result<()>) -> io::Result<()> {
        let mut index = Index::default();
        // Without a state a lease of a foreign file counts as over: nobody is told that it runs.
        scan(&*self.file, self.end, WallTime::NEVER, &mut |record, span| index.add(record, span))?;
        let mut window = Window::new(&*self.file);
        let mut text = Vec::new();
        for (span, _) in index.spans()? {
            text.clear();
            window.read(span, &mut text)?;
            let mut found = None;
            Reader::new(WallTime::NEVER).feed(&text, true, &mut |one| {
                if let Found::Record(record, _) = one {
                    found = Some(record);
                }
            });
            if let Some(record) = found {
                sink(record)?;
            }
        }
        Ok(())
    }
}
