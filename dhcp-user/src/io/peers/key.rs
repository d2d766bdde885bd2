//! The file with the key of a failover link: read anew for every connection, refused when others may read or alter it.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use base64ct::{Base64, Encoding as _};

use super::seal::{KEY_LEN, Key};
use crate::config::Config;

/// Most bytes of a key file: far more than a key and its line end.
const FILE_LEN_MAX: u64 = 1024;

/// Reads a key.
///
/// # Errors
/// A sentence that says what to do.
pub(super) fn read(path: &Path) -> Result<Key, String> {
    let name = path.display();
    let file = File::open(path).map_err(|error| format!("the key {name} cannot be read: {error}"))?;
    let about = file.metadata().map_err(|error| format!("the key {name} cannot be read: {error}"))?;
    // SAFETY: it only asks, and cannot fail.
    let user = unsafe { libc::geteuid() };
    if !about.is_file() {
        return Err(format!("the key {name} is no file"));
    }
    refuse_access(about.mode(), about.uid(), user).map_err(|why| format!("the key {name} {why}"))?;
    let mut text = Vec::new();
    let read = file.take(FILE_LEN_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| format!("the key {name} cannot be read: {error}"))?;
    decode(text.trim_ascii()).map(Key).ok_or_else(|| {
        format!(
            "{name} holds no key: it wants {KEY_LEN} bytes in base64 and nothing else (openssl rand -base64 {KEY_LEN})"
        )
    })
}

/// What is wrong with the key files that a configuration names.
pub(in crate::io) fn check(config: &Config) -> Result<(), String> {
    for peer in &config.failover_peers {
        if let Some(path) = &peer.link_key_file {
            read(Path::new(&**path)).map_err(|why| format!("failover peer \"{}\": {why}", peer.name))?;
        }
    }
    Ok(())
}

fn refuse_access(mode: u32, owner: u32, user: u32) -> Result<(), String> {
    if owner != 0 && owner != user {
        return Err(format!("belongs to user {owner}, who could exchange it: chown it to root"));
    }
    if mode & 0o007 != 0 {
        return Err(format!("may be read by everybody on this machine (mode {:03o}): chmod 600", mode & 0o777));
    }
    if mode & 0o020 != 0 {
        return Err(format!("may be written by its group (mode {:03o}): chmod 600", mode & 0o777));
    }
    Ok(())
}

/// Base64 of exactly a key (RFC 4648 4), with its padding.
fn decode(text: &[u8]) -> Option<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    let read = Base64::decode(text, &mut key).ok()?.len();
    (read == KEY_LEN).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::*;

    /// `openssl rand -base64 32`, and the same by `base64 -d | od -An -tx1`.
    const TEXT: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=";
    const BYTES: [u8; KEY_LEN] = [
        0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
        24, 25, 0xfb, 0xff,
    ];

    fn file(name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = env::temp_dir().join(format!("xdhcpd-key-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_is_read_from_a_file_that_only_its_owner_or_group_may_read() {
        for mode in [0o600, 0o400, 0o640] {
            let path = file("good", format!("{TEXT}\n").as_bytes(), mode);
            assert_eq!(read(&path), Ok(Key(BYTES)), "{mode:o}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_others_may_read_or_alter_is_refused_with_what_to_do() {
        for (mode, why) in
            [(0o644, "(mode 644): chmod 600"), (0o604, "everybody"), (0o660, "its group"), (0o601, "everybody")]
        {
            let path = file("bad", TEXT.as_bytes(), mode);
            let error = read(&path).unwrap_err();
            assert!(error.contains(why) && error.contains("xdhcpd-key-"), "{mode:o}: {error}");
            fs::remove_file(path).unwrap();
        }
        assert!(refuse_access(0o100_600, 1000, 0).unwrap_err().contains("user 1000"));
        assert_eq!(refuse_access(0o100_600, 0, 1000), Ok(()));
        assert_eq!(refuse_access(0o100_600, 1000, 1000), Ok(()));
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        let cut = &TEXT[..40];
        let long = format!("{TEXT}{TEXT}");
        let odd = TEXT.replace("/8=", "/9=");
        let endless = "A".repeat(100_000);
        for text in ["", "secret", cut, &long, &odd, &endless, &TEXT.replace('+', "-"), &TEXT[..43]] {
            let path = file("none", text.as_bytes(), 0o600);
            let error = read(&path).unwrap_err();
            assert!(error.contains("holds no key") && error.contains("openssl rand"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "a secret is not repeated: {error}");
            fs::remove_file(path).unwrap();
        }
        assert!(read(Path::new("/nowhere/at/all")).unwrap_err().contains("cannot be read"));
        assert!(read(Path::new("/dev")).unwrap_err().contains("is no file"));
    }
}
