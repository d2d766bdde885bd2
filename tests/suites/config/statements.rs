//! `docs/statements.md` is what the parser does.
//!
//! `XDHCPD_BLESS=1 cargo test -p tests --test config statements` writes it again.

use std::path::PathBuf;
use std::{env, fs};

use dhcp_user::config::reference::markdown;

#[test]
fn the_table_of_statements_is_what_the_parser_does() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/statements.md");
    let now = markdown();
    if env::var_os("XDHCPD_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &now).unwrap();
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    let differ = now.lines().zip(known.lines()).find(|(now, known)| now != known);
    assert!(
        now == known,
        "docs/statements.md is not what the parser does; read the difference, then write it again with \
         `XDHCPD_BLESS=1 cargo test -p tests --test config statements`\n{differ:?}"
    );
}
