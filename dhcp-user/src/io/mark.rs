//! A file beside the leases that says: the kernel may have promised more than the records.
//!
//! Made before the first lease is armed, removed after a clean stop has written exact times. Whoever finds it counts with
//! the horizons (design: restart); whoever does not, with what is written. dhcpd never sees it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file, by the leases file that it belongs to.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
}

impl Mark {
    /// The mark of a leases file.
    #[must_use]
    pub fn of(leases: &Path) -> Self {
        let mut name = leases.as_os_str().to_owned();
        name.push(".armed");
        Self { path: name.into() }
    }

    /// Whether an earlier agent left it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Makes it, durably.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn set(&self) -> Result<(), String> {
        let make = || {
            fs::write(&self.path, "The fast path may have promised more than the leases file says; see xdhcpd.\n")?;
            fs::File::open(&self.path)?.sync_all()?;
            self.sync_folder()
        };
        make().map_err(|error: io::Error| format!("{}: {error}", self.path.display()))
    }

    /// Removes it. One that stays costs only patience.
    pub fn clear(&self) {
        let _ = fs::remove_file(&self.path).and_then(|()| self.sync_folder());
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => fs::File::open(".")?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_it_is_cleared() {
        let leases = std::env::temp_dir().join(format!("xdhcpd-mark-{}", std::process::id()));
        let mark = Mark::of(&leases);
        assert!(!mark.is_set());
        mark.set().unwrap();
        assert!(Mark::of(&leases).is_set());
        mark.clear();
        assert!(!mark.is_set());
        assert!(Mark::of(Path::new("/nonexistent/x")).set().unwrap_err().contains("/nonexistent/x.armed"));
    }
}
