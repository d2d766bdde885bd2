//! An archive that the kernel unpacks as its first file system (cpio, "newc": initramfs-buffer-format of its
//! documentation).

/// Files, in the order in which they are unpacked.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

/// Mode bits: a folder, a program, a character device.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

impl Archive {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    pub(super) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, (0, 0), &[]);
    }

    pub(super) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, (0, 0), content);
    }

    /// `/dev/console`, which the first program's output goes to.
    pub(super) fn console(&mut self) {
        self.entry("dev/console", DEVICE, (5, 1), &[]);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.count += 1;
        self.bytes.extend(b"070701");
        // Number, mode, owner, group, links, time, size, device, the device it is, length of the name, no checksum.
        let (size, name_len) = (content.len() as u32, name.len() as u32 + 1);
        for field in [self.count, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_len, 0] {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_another_reader_takes_it_for() {
        let mut archive = Archive::new();
        archive.folder("bin");
        archive.program("bin/a", b"hello");
        let bytes = archive.finish();
        assert!(bytes.len().is_multiple_of(4));
        let text = String::from_utf8_lossy(&bytes);
        let heads: Vec<&str> = text.split("070701").skip(1).collect();
        assert_eq!(heads.len(), 3);
        assert_eq!(&heads[1][48..56], "00000005", "the size of the content");
        assert_eq!(&heads[1][88..96], "00000006", "the length of the name with its zero");
        assert!(heads[1].contains("bin/a\0") && heads[1].contains("hello"));
    }
}
